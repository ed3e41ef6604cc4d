"""Layers with weights: relevance goes to the terms of a sum, all of them or what raises and what lowers it apart."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from fragile_utils._base.once import once
from fragile_utils.saliency.propagation.operation import Bends, Linear, Operation, Setting, times
from fragile_utils.saliency.propagation.steps import Step
from fragile_utils.saliency.propagation.weighted import Weighted


def away_from_zero(z: Tensor, epsilon: float) -> Tensor:
    """Return z, epsilon further from zero."""
    return torch.where(z >= 0, epsilon, -epsilon).to(z.dtype).add_(z)


def signs(x: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """Return the positive and the negative part of weights."""
    return (None, None) if x is None else once("signs", (x,), lambda: (x.clamp(min=0), x.clamp(max=0)))


class Absorbed(NamedTuple):
    """The value of a layer, and what the layer keeps."""

    value: Tensor
    of_layer: Any


class Absorbing(Operation):
    """A linear layer by the epsilon rule: of its multipliers, |z| / (|z| + epsilon) is handed down."""

    def __init__(self, layer: Linear, epsilon: float) -> None:
        super().__init__(layer.step, layer.setting)
        self.layer, self.epsilon = layer, epsilon

    def forward(self, inputs: list[Tensor], at_reference: Any = None) -> tuple[Tensor, Absorbed]:
        value, kept = self.layer.forward(inputs)
        return value, Absorbed(value.clone(), kept)  # a copy: what follows may overwrite it

    def transposed(self, m: Tensor, kept: Absorbed) -> list[Tensor | None]:
        return self.layer.transposed(m, kept.of_layer)

    def propagate(self, m: Tensor, kept: Absorbed, keep: bool) -> tuple[list[Tensor | None], Tensor | None]:
        share = 1 - self.epsilon / (kept.value.abs() + self.epsilon)
        return self.layer.transposed(m * share, kept.of_layer), m if keep else None

    def differentiate(self, tangents: list[Tensor], kept: Absorbed, propagated: Tensor) -> tuple[Tensor, Bends]:
        t = self.layer.tangent(tangents, kept.of_layer)
        away = kept.value.abs() + self.epsilon
        bend = t * propagated * self.epsilon * kept.value.sign() / away.square()
        return t * (1 - self.epsilon / away), Bends(of_value=bend)


class Part(NamedTuple):
    """What raises the values of a layer, or what lowers them: p = W x+ + V x- + b."""

    factor: float
    of_positive: Tensor  # W: the weights of inputs at or above 0
    of_negative: Tensor  # V: of those below
    away: Tensor  # p, away from zero
    ratio: Tensor  # z / p


class Parts(NamedTuple):
    """The two parts, or one; where the inputs are at or above 0, None if everywhere; and the weights."""

    parts: list[Part]
    positive: Tensor | None
    weight: Tensor
    x: Tensor  # the input


class RaisedAndLowered(Weighted):
    """A convolution or a linear layer by the alpha-beta rule; z-plus, if beta is 0.

    With p = W+ x+ + W- x- + b+, the sum of what raises z, multipliers m of z become W+^T (m z / p) for inputs at or
    above 0 and W-^T (m z / p) for those below; with what lowers z, the other way round.
    """

    def __init__(self, step: Step, setting: Setting, *, alpha: float, beta: float, epsilon: float) -> None:
        super().__init__(step, setting)
        self.alpha, self.beta, self.epsilon = alpha, beta, epsilon

    def forward(self, inputs: list[Tensor], at_reference: Any = None) -> tuple[Tensor, Parts]:
        x, *_ = inputs
        weight, bias = (self.chosen(t, inputs) for t in self.step.weights)
        z = self.apply(x, weight, bias)
        positive = None if self.step.inputs[0].positive and not self.step.inputs[0].pixels else x >= 0
        (up, down), (bias_up, bias_down) = (
            [self.chosen(t, inputs) for t in signs(weights)] for weights in self.step.weights
        )
        parts = []
        for factor, w, v, b in ((self.alpha, up, down, bias_up), (-self.beta, down, up, bias_down)):
            if factor != 0:
                away = away_from_zero(self._sum(x, positive, w, v, b), self.epsilon)
                parts.append(Part(factor, w, v, away, z / away))
        return z, Parts(parts, positive, weight, x)

    def propagate(self, m: Tensor, kept: Parts, keep: bool) -> tuple[list[Tensor | None], Tensor | None]:
        shares = [self._back(times(part.factor, m * part.ratio), part, kept.positive) for part in kept.parts]
        return [sum(shares[1:], shares[0])], m if keep else None

    def differentiate(self, tangents: list[Tensor], kept: Parts, propagated: Tensor) -> tuple[Tensor, Bends]:
        tangent = of_x = of_z = None
        for part in kept.parts:
            t = self._sum(tangents[0], kept.positive, part.of_positive, part.of_negative, None)
            t = times(part.factor, t)
            by_z = (t * propagated).div_(part.away)
            by_x = self._back((by_z * part.ratio).neg_(), part, kept.positive)
            t.mul_(part.ratio)
            tangent = t if tangent is None else tangent.add_(t)
            of_x, of_z = (by_x, by_z) if of_x is None else (of_x + by_x, of_z + by_z)
        return tangent, Bends([of_x], of_value=of_z)

    def _sum(self, x: Tensor, positive: Tensor | None, w: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        """Return W x + b, or W x + V x + b with W for the inputs where the image's are `positive`, V for the others."""
        if positive is None:
            return self.apply(x, w, bias)
        return self.apply(x * positive, w, bias) + self.apply(x * ~positive, v, None)

    def _back(self, m: Tensor, part: Part, positive: Tensor | None) -> Tensor:
        """Return the transpose of that, applied to `m`."""
        above = self.transpose(m, part.of_positive)
        return above if positive is None else torch.where(positive, above, self.transpose(m, part.of_negative))
