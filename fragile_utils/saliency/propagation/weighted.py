"""Layers with weights: convolutions and linear layers, and the last of them for the score of one class alone."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fragile_utils._base.once import once
from fragile_utils.models.convolution import convolution_transposed, pairs
from fragile_utils.saliency.propagation.kinds import Kind
from fragile_utils.saliency.propagation.operation import Linear
from fragile_utils.saliency.propagation.steps import Step

CONVOLUTION = {"stride": 1, "padding": 0, "dilation": 1}


class Weighted(Linear):
    """A convolution or a linear layer."""

    def forward(self, inputs: list[Tensor], at_reference: Any = None) -> tuple[Tensor, None]:
        weight, bias = self.step.weights
        return self.apply(*inputs, weight, bias), None

    def transposed(self, m: Tensor, kept: Any) -> list[Tensor | None]:
        weight, _ = self.step.weights
        return [self.transpose(m, weight)]

    def tangent(self, tangents: list[Tensor], kept: Any) -> Tensor:
        weight, _ = self.step.weights
        return self.apply(*tangents, weight, None)

    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the layer with these weights, applied to `x`."""
        return self.step.call(x, laid_out(weight, like=x), bias)

    def transpose(self, m: Tensor, weight: Tensor) -> Tensor:
        """Return the transpose of the layer with these weights, applied to `m`."""
        if self.step.function is F.linear:
            return m @ weight
        options = self.step.options
        stride, padding, dilation = pairs(*(options.get(name, d) for name, d in CONVOLUTION.items()))
        size, groups = self.step.inputs[0].shape[-2:], options.get("groups", 1)
        return convolution_transposed(m, laid_out(weight, like=m), size, stride, padding, dilation, groups)


def laid_out(weight: Tensor, like: Tensor) -> Tensor:
    """Return the weights of a convolution in the memory layout of images, in which it is quickest."""
    last = torch.channels_last
    if weight.ndim != 4 or weight.shape[-2:] == (1, 1) or not is_channels_last(like):
        return weight
    return once("channels last", (weight,), lambda: weight.contiguous(memory_format=last))


def is_channels_last(x: Tensor) -> bool:
    return x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


# --- The score of one class ------------------------------------------------------------------------------------------


class RowsOf(NamedTuple):
    """What the last layer keeps: its input, and for each image the weights (N, C) of its class."""

    x: Tensor
    weights: Tensor


class OfTarget(Linear):
    """The last layer, restricted for each image to the class that is explained.

    The layer must see each place alone: a linear layer (N, C) to (N, 1), or a convolution of one pixel
    (N, C, H, W) to (N, 1, H, W). Its second input is the class of each image.
    """

    def forward(self, inputs: list[Tensor], at_reference: Any = None) -> tuple[Tensor, RowsOf]:
        x, targets = inputs
        weight, bias = self.step.weights
        rows = weight.flatten(1).index_select(0, targets)
        value = self._rows(x, rows)
        if bias is not None:
            value = value + bias.index_select(0, targets).view(-1, *[1] * (x.ndim - 1))
        return value, RowsOf(x, rows)

    def tangent(self, tangents: list[Tensor], kept: RowsOf) -> Tensor:
        return self._rows(tangents[0], kept.weights)

    def transposed(self, m: Tensor, kept: RowsOf) -> list[Tensor | None]:
        if m.ndim == 2:
            return [m * kept.weights, None]
        return [(m.movedim(1, -1) * kept.weights[:, None, None]).movedim(-1, 1), None]

    def _rows(self, x: Tensor, rows: Tensor) -> Tensor:
        if x.ndim == 2:
            return (x * rows).sum(1, keepdim=True)
        return (x.movedim(1, -1) @ rows[:, None, :, None]).movedim(-1, 1)


def sees_each_place_alone(step: Step) -> bool:
    """Return whether a step is a linear layer, or a convolution of one pixel, so that `OfTarget` may stand for it."""
    if step.kind is not Kind.WEIGHTED:
        return False
    if step.function is F.linear:
        return len(step.output.shape) == 2
    options = step.options
    alone = all(set(pairs(options.get(name, d))[0]) == {d} for name, d in CONVOLUTION.items())
    return alone and options.get("groups", 1) == 1 and step.weights[0].shape[-2:] == (1, 1)
