"""Layers with weights: convolutions and linear layers, the last of them also for the score of one class alone."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fragile_utils._base import onednn
from fragile_utils._base.geometry import pair
from fragile_utils._base.layout import is_channels_last
from fragile_utils._base.once import once
from fragile_utils.models.convolution import convolution_transposed
from fragile_utils.saliency.propagation.kinds import Kind
from fragile_utils.saliency.propagation.operation import Linear, Setting
from fragile_utils.saliency.propagation.steps import Step

CONVOLUTION = {"stride": 1, "padding": 0, "dilation": 1}


class WeightsOf(NamedTuple):
    """What a layer keeps: its weights, and its input if it is the last one, for the score of one class."""

    weight: Tensor
    x: Tensor | None


class Weighted(Linear):
    """A convolution or a linear layer.

    With a second input, the class of each image, it is the last layer restricted to the score of that class: a linear
    layer (N, C) to (N, 1), or a convolution of one pixel (N, C, H, W) to (N, 1, H, W), with rows of weights (N, C).
    """

    def __init__(self, step: Step, setting: Setting) -> None:
        super().__init__(step, setting)
        self.one_class = len(step.inputs) == 2
        self.by_pixel = step.function is not F.linear and sees_each_place_alone(step)

    def forward(self, inputs: list[Tensor], at_reference: Any = None) -> tuple[Tensor, WeightsOf]:
        weight, bias = (self.chosen(t, inputs) for t in self.step.weights)
        return self.apply(inputs[0], weight, bias), WeightsOf(weight, inputs[0] if self.one_class else None)

    def transposed(self, m: Tensor, kept: WeightsOf) -> list[Tensor | None]:
        return [self.transpose(m, kept.weight)]

    def tangent(self, tangents: list[Tensor], kept: WeightsOf) -> Tensor:
        return self.apply(tangents[0], kept.weight, None)

    def chosen(self, weights: Tensor | None, inputs: list[Tensor]) -> Tensor | None:
        """Return all weights or biases of the layer, or the rows of each image's class."""
        if weights is None or not self.one_class:
            return weights
        return weights.flatten(1 if weights.ndim > 1 else 0).index_select(0, inputs[1])

    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the layer with these weights, applied to `x`."""
        if self.one_class:
            rows = weight.view(len(weight), *[1] * (x.ndim - 2), -1)
            value = (x.movedim(1, -1) * rows).sum(-1, keepdim=True).movedim(-1, 1)
            return value if bias is None else value + bias.view(-1, *[1] * (x.ndim - 1))
        if self.step.function is F.linear:
            return onednn.multiply(x, weight, bias)
        if self.by_pixel and is_channels_last(x) and x.device.type == "cpu":  # no layout is quicker than a product
            return onednn.multiply_pixels(x, weight.flatten(1), bias)
        return onednn.convolve(x, laid_out(weight, like=x), bias, **self.step.options)

    def transpose(self, m: Tensor, weight: Tensor) -> Tensor:
        """Return the transpose of the layer with these weights, applied to `m`."""
        if self.one_class:
            rows = weight.view(len(weight), *[1] * (m.ndim - 2), -1)
            return (m.movedim(1, -1) * rows).movedim(-1, 1)
        if self.step.function is F.linear:
            return onednn.multiply(m, weight.t())
        if self.by_pixel and is_channels_last(m) and m.device.type == "cpu":
            return onednn.multiply_pixels(m, weight.flatten(1).t())
        options = self.step.options
        stride, padding, dilation = (pair(options.get(name, d)) for name, d in CONVOLUTION.items())
        size, groups = self.step.inputs[0].shape[-2:], options.get("groups", 1)
        return convolution_transposed(m, laid_out(weight, like=m), size, stride, padding, dilation, groups)


def laid_out(weight: Tensor, like: Tensor) -> Tensor:
    """Return the weights of a convolution in the memory layout of images, in which it is quickest."""
    last = torch.channels_last
    if weight.ndim != 4 or weight.shape[-2:] == (1, 1) or not is_channels_last(like):
        return weight
    return once("channels last", (weight,), lambda: weight.contiguous(memory_format=last))


def sees_each_place_alone(step: Step) -> bool:
    """Return whether a step is a linear layer, or a convolution of one pixel: it can be restricted to a class."""
    if step.kind is not Kind.WEIGHTED:
        return False
    if step.function is F.linear:
        return len(step.output.shape) == 2
    options = step.options
    alone = all(pair(options.get(name, d)) == (d, d) for name, d in CONVOLUTION.items())
    return alone and options.get("groups", 1) == 1 and step.weights[0].shape[-2:] == (1, 1)
