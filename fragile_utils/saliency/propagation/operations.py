"""The steps of a network, each with its derivatives: what `tangents` carries values, multipliers and tangents through.

An operation knows four things of its step: the value; what the step hands down, by a rule, to its inputs when
multipliers arrive at its output; the transpose of that, with the bends that come of it (see `tangents`); and the
transpose of its own derivative. For most steps the rule is the derivative.
"""

from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fragile_utils.models.convolution import convolution_transposed, pairs
from fragile_utils.models.surrogate import softplus_and_slope
from fragile_utils.saliency.propagation.trace import (
    ACTIVATION,
    CAT,
    COMBINE,
    HOMOGENEOUS,
    MAX_POOL,
    REARRANGE,
    RELU,
    WEIGHTED,
    Node,
    Step,
)

CONVOLUTION = {"stride": 1, "padding": 0, "dilation": 1}


class Operation:
    """A step with its derivatives. The general one leaves them to autograd, within the step.

    Parameters
    ----------
    step : Step
    activations : context manager
        How activations are computed in it.
    """

    def __init__(self, step: Step, activations: AbstractContextManager) -> None:
        self.step, self.activations = step, activations

    def forward(self, inputs: list[Tensor], beside: list[Any] | None = None) -> tuple[Tensor, list[Any]]:
        """Return the value, and what the rest needs of it; `beside` is that of the same step on the reference."""
        with torch.enable_grad(), self.activations:
            arguments = [x.detach().requires_grad_() for x in inputs]
            value = self.step.call(*arguments, *self.step.weights)
        return value.detach(), [value, *arguments]

    def transposed(self, m: Tensor, saved: list[Any]) -> list[Tensor]:
        """Return the transpose of the derivative, applied to multipliers `m` of the output: those of each input."""
        value, *arguments = saved
        return list(torch.autograd.grad(value, arguments, m, retain_graph=True))

    def hand(self, m: Tensor, saved: list[Any], note: bool) -> tuple[list[Tensor], Any]:
        """Return what the rule makes of multipliers `m`, for each input, and, with `note`, what `answer` needs of it.

        Here the rule is the derivative, and noted is f''(z) m of an elementwise step, None of one that is not curved.
        """
        noted = self.curvature(m, saved) if note else None
        return self.transposed(m, saved), noted

    def answer(self, tangents: list[Tensor], saved: list[Any], noted: Any) -> tuple[Tensor, list[Tensor | None]]:
        """Return the transpose of `hand`, applied to `tangents` of the inputs; and its bends.

        A bend is the derivative of <tangents, what is handed down> by an input. There is one for each, or none at all;
        one more, if there is one, is by the value, as if it did not depend on the inputs.
        """
        bends = [] if noted is None else [noted * tangents[0]]
        return self.tangent(tangents, saved), bends

    def tangent(self, tangents: list[Tensor], saved: list[Any]) -> Tensor:
        """Return the derivative, applied to the tangents of the inputs."""
        if self.step.kind in (REARRANGE, COMBINE):
            return self.step.call(*tangents)
        value, *arguments = saved
        with torch.enable_grad():  # the transpose of the transpose
            m = torch.zeros_like(value).requires_grad_()
            shares = torch.autograd.grad(value, arguments, m, create_graph=True)
            return torch.autograd.grad(shares, m, tangents, retain_graph=True)[0]

    def curvature(self, m: Tensor, saved: list[Any]) -> Tensor | None:
        """Return f''(z) m of an elementwise step, None of one that is not curved."""
        if self.step.kind not in (HOMOGENEOUS, ACTIVATION):
            return None
        value, z = saved
        with torch.enable_grad():
            (share,) = torch.autograd.grad(value, z, m, create_graph=True)
            return torch.autograd.grad(share.sum(), z, retain_graph=True)[0] if share.requires_grad else None


class Ruled(Operation):
    """A step that hands down by a rule of its own, given as a differentiable function of the step and m."""

    def __init__(self, step: Step, activations: AbstractContextManager, rule: Any) -> None:
        super().__init__(step, activations)
        self.rule = rule

    def forward(self, inputs: list[Tensor], beside: list[Any] | None = None) -> tuple[Tensor, list[Any]]:
        step, indices = self.step, None
        with torch.enable_grad(), self.activations:
            arguments = [x.detach().requires_grad_() for x in inputs]
            value = step.call(*arguments, *step.weights)
        if step.kind == MAX_POOL:
            value, indices = value
        nodes = [replace(node, value=x) for node, x in zip(step.inputs, arguments, strict=True)]
        output = replace(step.output, value=value)
        reference = beside[0] if beside else None
        made = replace(step, inputs=nodes, arguments=arguments, output=output, indices=indices, reference=reference)
        return value.detach().clone(), [made]  # a copy: what follows may overwrite it

    def transposed(self, m: Tensor, saved: list[Any]) -> list[Tensor]:
        (step,) = saved
        return list(torch.autograd.grad(step.output.value, step.arguments, m, retain_graph=True))

    def hand(self, m: Tensor, saved: list[Any], note: bool) -> tuple[list[Tensor], Any]:
        (step,) = saved
        with torch.set_grad_enabled(note), self.activations:
            m = m.detach().clone().requires_grad_(note)  # a copy, as that of the value
            shares = self.rule(step, m)
        return [share.detach().clone() for share in shares], (m, shares) if note else None

    def answer(self, tangents: list[Tensor], saved: list[Any], noted: Any) -> tuple[Tensor, list[Tensor | None]]:
        (step,), (m, shares) = saved, noted
        tangent, *bends = torch.autograd.grad(
            shares, [m, *step.arguments], tangents, retain_graph=True, allow_unused=True
        )
        return tangent, bends


class Weighted(Operation):
    """A convolution or a linear layer."""

    def forward(self, inputs: list[Tensor], beside: list[Any] | None = None) -> tuple[Tensor, list[Any]]:
        return self.step.call(*inputs, *self.step.weights), []

    def transposed(self, m: Tensor, saved: list[Any]) -> list[Tensor]:
        weight, _ = self.step.weights
        return [self._transposed(m, weight)]

    def tangent(self, tangents: list[Tensor], saved: list[Any]) -> Tensor:
        weight, _ = self.step.weights
        return self.step.call(*tangents, weight, None)

    def _transposed(self, m: Tensor, weight: Tensor) -> Tensor:
        if self.step.function is F.linear:
            return m @ weight
        options = self.step.options
        stride, padding, dilation = pairs(*(options.get(name, d) for name, d in CONVOLUTION.items()))
        size = self.step.inputs[0].value.shape[-2:]
        return convolution_transposed(m, weight, size, stride, padding, dilation, options.get("groups", 1))


class ZPlus(Weighted):
    """A convolution or a linear layer of inputs at or above 0 that hands down by the z-plus rule.

    With p = W+ x + b+, the sum of what raises z, multipliers m of z become W+^T (m z / p).
    """

    def __init__(self, step: Step, activations: AbstractContextManager, epsilon: float) -> None:
        super().__init__(step, activations)
        self.epsilon = epsilon

    def forward(self, inputs: list[Tensor], beside: list[Any] | None = None) -> tuple[Tensor, list[Any]]:
        weight, bias = self.step.weights
        z = self.step.call(*inputs, weight, bias)
        up = weight.clamp(min=0)
        p = self.step.call(*inputs, up, None if bias is None else bias.clamp(min=0)).add_(self.epsilon)
        return z, [z / p, p, up]

    def hand(self, m: Tensor, saved: list[Any], note: bool) -> tuple[list[Tensor], Any]:
        share, p, up = saved  # of z in p
        return [self._transposed(m * share, up)], m / p if note else None

    def answer(self, tangents: list[Tensor], saved: list[Any], noted: Any) -> tuple[Tensor, list[Tensor | None]]:
        share, _, up = saved
        t = self.step.call(*tangents, up, None)
        by_z = noted * t
        by_p = self._transposed((by_z * share).neg_(), up)
        return t * share, [by_p, by_z]


class SoftplusOfReLU(Operation):
    """ReLU, smoothed by the surrogate."""

    def __init__(self, step: Step, activations: AbstractContextManager, beta: float, over: bool, back: bool) -> None:
        super().__init__(step, activations)
        self.beta = beta
        self.over, self.back = over, back  # whether values, and multipliers, may be overwritten

    def forward(self, inputs: list[Tensor], beside: list[Any] | None = None) -> tuple[Tensor, list[Any]]:
        value, slope = softplus_and_slope(*inputs, self.beta, in_place=self.over)
        return value, [slope]

    def transposed(self, m: Tensor, saved: list[Any]) -> list[Tensor]:
        return [m.mul_(saved[0]) if self.back else m * saved[0]]

    def tangent(self, tangents: list[Tensor], saved: list[Any]) -> Tensor:
        return tangents[0].mul_(saved[0]) if self.over else tangents[0] * saved[0]

    def curvature(self, m: Tensor, saved: list[Any]) -> Tensor:
        curvature = torch.ops.aten.sigmoid_backward(m, saved[0])  # m s (1 - s), in one pass
        return curvature if self.beta == 1 else curvature.mul_(self.beta)


TINY = 1e-10  # below this difference of inputs, Captum's and ours, the slope between two points is the derivative


def slope(rise: Tensor, run: Tensor, otherwise: Tensor | float) -> Tensor:
    """Return rise / run, or `otherwise` where the run is all but zero."""
    small = run.abs() < TINY
    return torch.where(small, otherwise, rise / torch.where(small, 1, run))


def close(run: Tensor) -> Tensor:
    """Return where two points are so close that (f'(x) - slope) / run would be noise: 0.02 in float32, 1e-4 in float64.

    A small difference of large numbers, over a small number.
    """
    return run.abs() < torch.finfo(run.dtype).eps ** 0.25


class SecantOfSoftplus(SoftplusOfReLU):
    """ReLU, smoothed by the surrogate, that hands down by DeepLIFT's rescale rule: the slope to the reference."""

    def forward(self, inputs: list[Tensor], beside: list[Any] | None = None) -> tuple[Tensor, list[Any]]:
        (z,) = inputs
        value, derivative = softplus_and_slope(z, self.beta)
        if beside is None:  # this is the reference
            return value, [z, value]
        z0, value0 = beside
        run = z.sub_(z0) if self.over else z - z0
        secant = torch.where(run.abs() < TINY, derivative, (value - value0).div_(run))
        return value, [derivative, secant, run]

    def hand(self, m: Tensor, saved: list[Any], note: bool) -> tuple[list[Tensor], Any]:
        derivative, secant, run = saved
        noted = None
        if note:
            half = torch.ops.aten.sigmoid_backward(m, derivative).mul_(self.beta / 2)  # f''(z) m / 2
            noted = torch.where(close(run), half, (derivative - secant).div_(run).mul_(m))
        return [m.mul_(secant) if self.back else m * secant], noted

    def answer(self, tangents: list[Tensor], saved: list[Any], noted: Any) -> tuple[Tensor, list[Tensor | None]]:
        (t,) = tangents
        bend = noted * t
        return t.mul_(saved[1]) if self.over else t * saved[1], [bend]


class MaxPool(Operation):
    """Max pooling: its derivative takes, or puts back, the places of the maxima."""

    def forward(self, inputs: list[Tensor], beside: list[Any] | None = None) -> tuple[Tensor, list[Any]]:
        value, indices = self.step.call(*inputs)
        return value, [indices]

    def tangent(self, tangents: list[Tensor], saved: list[Any]) -> Tensor:
        return taken(tangents[0], saved[0])

    def transposed(self, m: Tensor, saved: list[Any]) -> list[Tensor]:
        return [self._put_back(m, saved[0])]

    def _put_back(self, m: Tensor, indices: Tensor) -> Tensor:
        n, c, h, w = self.step.inputs[0].value.shape
        x = m.new_zeros(n, h * w, c).scatter_add_(1, _by_pixel(indices), _by_pixel(m))
        return x.unflatten(1, (h, w)).movedim(-1, 1)


class RescaledMaxPool(MaxPool):
    """Max pooling that hands down by DeepLIFT's rescale rule; see `propagation.Rescale`."""

    def forward(self, inputs: list[Tensor], beside: list[Any] | None = None) -> tuple[Tensor, list[Any]]:
        (x,) = inputs
        y, indices = self.step.call(x)
        if beside is None:  # this is the reference
            return y, [indices, x, y]
        indices0, x0, y0 = beside
        indices0, x0 = indices0.expand_as(indices), x0.expand_as(x)
        gained = y >= y0
        change = torch.where(gained, y - taken(x0, indices), taken(x, indices0) - y0)
        ratio = slope(y - y0, change, gained.to(y.dtype))
        return y, [indices, torch.where(gained, indices, indices0), change, ratio]

    def hand(self, m: Tensor, saved: list[Any], note: bool) -> tuple[list[Tensor], Any]:
        _, places, change, ratio = saved
        return [self._put_back(m * ratio, places)], slope(m, change, 0) if note else None

    def answer(self, tangents: list[Tensor], saved: list[Any], noted: Any) -> tuple[Tensor, list[Tensor | None]]:
        _, places, _, ratio = saved
        t = taken(tangents[0], places)
        by_gain = noted * t
        return t.mul_(ratio), [self._put_back((by_gain * ratio).neg_(), places), by_gain]


def taken(x: Tensor, indices: Tensor) -> Tensor:
    """Return the values of x (N, C, H, W) at the places `indices` (N, C, h, w) in their planes."""
    return _by_pixel(x).gather(1, _by_pixel(indices)).unflatten(1, indices.shape[-2:]).movedim(-1, 1)


def _by_pixel(x: Tensor) -> Tensor:
    """Return x (N, C, H, W) as (N, H W, C)."""
    return x.movedim(1, -1).flatten(1, 2)


# --- Which operation a step is ----------------------------------------------------------------------------------------


def operation_of(
    step: Step, beta: float, activations: AbstractContextManager, readers: dict[Node, list[Step]], rules: Any
) -> Operation:
    """Return the operation of a step that hands down by `rules`; None stands for the derivatives."""
    given = (step, activations)
    if step.function in RELU:
        given += (beta, *_may_overwrite(step, readers))
    if rules is not None and not rules.is_derivative(step):
        return rules.operation(step, given)
    if step.kind == WEIGHTED and not isinstance(step.options.get("padding"), str):
        return Weighted(*given)
    if step.kind == MAX_POOL:
        return MaxPool(*given)
    return SoftplusOfReLU(*given) if step.function in RELU else Operation(*given)


def _may_overwrite(step: Step, readers: dict[Node, list[Step]]) -> tuple[bool, bool]:
    """Return whether a ReLU may compute in the memory of its input, and of the multipliers of its output."""
    (before,) = step.inputs
    fresh = before.step is not None and before.step.kind in (WEIGHTED, MAX_POOL)
    return fresh and len(readers[before]) == 1, _handed_down_fresh(step.output, readers)


def _handed_down_fresh(node: Node, readers: dict[Node, list[Step]]) -> bool:
    """Whether the multipliers that arrive at `node` are in memory that is used for nothing else."""
    return all(
        reader.kind in (WEIGHTED, MAX_POOL)
        or (reader.function in CAT and len(reader.inputs) > 1 and _handed_down_fresh(reader.output, readers))
        for reader in readers.get(node, [])
    ) and bool(readers.get(node))
