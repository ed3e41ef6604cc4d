"""The steps that see the image: its normalisation, and the layer that hands down relevances in place of multipliers."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fragile_utils._base.once import once
from fragile_utils.saliency.propagation.operation import Bends, Linear, Operation, Setting
from fragile_utils.saliency.propagation.operations import derivative
from fragile_utils.saliency.propagation.steps import Node, Step, Untraceable
from fragile_utils.saliency.propagation.weighted import Weighted
from fragile_utils.saliency.relevance.shares import away_from_zero, signs


class OnItsPixel(Linear):
    """Normalisation by constants: relevance stays on its pixel."""

    def __init__(self, step: Step, setting: Setting) -> None:
        super().__init__(step, setting)
        if step.inputs[0].shape != step.output.shape:
            got = tuple(step.output.shape)
            raise Untraceable(f"{step}: expected a normalisation that keeps the shape of the image, got {got}")
        self.normalisation = derivative(step, setting)

    def forward(self, inputs: list[Tensor], at_reference: Any = None) -> tuple[Tensor, Any]:
        return self.normalisation.forward(inputs)

    def transposed(self, m: Tensor, kept: Any) -> list[Tensor | None]:
        return self.normalisation.transposed(m, kept)

    def propagate(self, m: Tensor, kept: Any, keep: bool) -> tuple[list[Tensor | None], Any]:
        return [m], None

    def tangent(self, tangents: list[Tensor], kept: Any) -> Tensor:
        return tangents[0]


class Weighed(NamedTuple):
    """The inputs of a layer, and what the layer keeps."""

    inputs: list[Tensor]
    of_layer: Any


class HandedDown(NamedTuple):
    """The multipliers of the inputs of a layer, and what the layer needs to differentiate them."""

    shares: list[Tensor]
    of_layer: Any


class Relevances(Operation):
    """The layer that sees the pixels: it hands down relevances, x m, in place of multipliers m."""

    def __init__(self, layer: Operation) -> None:
        super().__init__(layer.step, layer.setting)
        self.layer = layer

    def forward(self, inputs: list[Tensor], at_reference: Any = None) -> tuple[Tensor, Weighed]:
        value, kept = self.layer.forward(inputs)
        return value, Weighed(inputs, kept)

    def transposed(self, m: Tensor, kept: Weighed) -> list[Tensor | None]:
        return self.layer.transposed(m, kept.of_layer)

    def propagate(self, m: Tensor, kept: Weighed, keep: bool) -> tuple[list[Tensor | None], HandedDown]:
        shares, propagated = self.layer.propagate(m, kept.of_layer, keep)
        weighed = [self._weigh(i, x, share) for i, (x, share) in enumerate(zip(kept.inputs, shares, strict=True))]
        return weighed, HandedDown(shares, propagated)

    def differentiate(self, tangents: list[Tensor], kept: Weighed, propagated: HandedDown) -> tuple[Tensor, Bends]:
        weighed = [self._weigh(i, x, t) for i, (x, t) in enumerate(zip(kept.inputs, tangents, strict=True))]
        tangent, bends = self.layer.differentiate(weighed, kept.of_layer, propagated.of_layer)
        of_inputs = list(bends.of_inputs) or [None] * len(tangents)
        for i, (t, share) in enumerate(zip(tangents, propagated.shares, strict=True)):
            if self.step.inputs[i].pixels:
                of_inputs[i] = t * share if of_inputs[i] is None else of_inputs[i] + t * share
        return tangent, Bends(of_inputs, bends.of_value)

    def _weigh(self, i: int, x: Tensor, m: Tensor) -> Tensor:
        return x * m if self.step.inputs[i].pixels else m


class Boxed(NamedTuple):
    """What the layer that sees the pixels needs for z-box."""

    weight: Tensor
    below: Tensor  # x - high
    value: Tensor
    away: Tensor  # sum_i z_i, away from zero
    width: Tensor  # low - high


class Bounds(NamedTuple):
    """The bounds of the pixels, black and white, and what the layer makes of them."""

    high: Tensor
    width: Tensor  # low - high
    terms: Tensor  # W high + W+ (low - high)


class Box(Weighted):
    """The layer that sees the pixels by the z-box rule: it hands down relevances.

    With z = W x - W+ low - W- high and s = m y / z, y being the value of the layer,
    R = x W^T s - low W+^T s - high W-^T s. As W- = W - W+, that is z = W (x - high) - W+ (low - high) and
    R = (x - high) W^T s - (low - high) W+^T s.
    """

    def __init__(self, step: Step, setting: Setting, epsilon: float) -> None:
        super().__init__(step, setting)
        self.epsilon = epsilon

    def forward(self, inputs: list[Tensor], at_reference: Any = None) -> tuple[Tensor, Boxed]:
        (x,) = inputs
        weight, bias = self.step.weights
        bounds = once("bounds", (self,), lambda: self._bounds(x))
        value = self.apply(x, weight, None)
        away = away_from_zero(value - bounds.terms, self.epsilon)
        if bias is not None:
            value = value + (bias if self.step.function is F.linear else bias.view(-1, 1, 1))
        kept = value.clone()  # a copy: what follows may overwrite it
        return value, Boxed(weight, x - bounds.high, kept, away, bounds.width)

    def propagate(self, m: Tensor, kept: Boxed, keep: bool) -> tuple[list[Tensor | None], Any]:
        s = (m * kept.value).div_(kept.away)
        of_x = self.transpose(s, kept.weight)
        up, _ = signs(kept.weight)
        return [kept.below * of_x - kept.width * self.transpose(s, up)], (m, of_x) if keep else None

    def differentiate(
        self, tangents: list[Tensor], kept: Boxed, propagated: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Bends]:
        (t,), (m, of_x) = tangents, propagated
        u = self._terms(kept.below * t, kept.width * t).div_(kept.away)
        by_value = u * m
        by_terms = (by_value * kept.value).div_(kept.away).neg_()
        return u.mul_(kept.value), Bends([t * of_x + self.transpose(by_terms, kept.weight)], of_value=by_value)

    def _terms(self, below: Tensor, width: Tensor) -> Tensor:
        weight, _ = self.step.weights
        up, _ = signs(weight)
        return self.apply(below, weight, None).sub_(self.apply(width, up, None))

    def _bounds(self, like: Tensor) -> Bounds:
        black, white = (_replayed(self.step.inputs[0], value, like) for value in (0, 1))
        low, high = torch.minimum(black, white), torch.maximum(black, white)
        return Bounds(high, low - high, self._terms(high, high - low))


def _replayed(node: Node, value: float, like: Tensor) -> Tensor:
    """Return what the steps up to `node` make of an image of one `value`."""
    if node.step is None:
        return torch.full(node.shape, value, dtype=like.dtype, device=like.device)
    return node.step.call(*(_replayed(previous, value, like) for previous in node.step.inputs))
