"""Elementwise steps: activations, with their first and second derivatives."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fragile_utils.models.softplus import softplus_and_slope, tail
from fragile_utils.models.surrogate import clip_range
from fragile_utils.saliency.propagation.operation import NO_BENDS, Bends, Operation, Setting, named, times, within_step
from fragile_utils.saliency.propagation.steps import Step


class Elementwise(Operation):
    """An activation f: it hands down f'(z) m, and f''(z) m bends."""

    def slope(self, kept: Any) -> Tensor:
        """Return f'(z)."""
        raise NotImplementedError

    def curvature(self, m: Tensor, kept: Any) -> Tensor | None:
        """Return f''(z) m, None if it is zero everywhere."""
        raise NotImplementedError

    def times_slope(self, m: Tensor, kept: Any, in_place: bool) -> Tensor:
        """Return f'(z) m."""
        slope = self.slope(kept)
        return m.mul_(slope) if in_place else m * slope

    def transposed(self, m: Tensor, kept: Any) -> list[Tensor | None]:
        return [self.times_slope(m, kept, self.setting.back)]

    def propagate(self, m: Tensor, kept: Any, keep: bool) -> tuple[list[Tensor | None], Tensor | None]:
        curvature = self.curvature(m, kept) if keep else None
        return self.transposed(m, kept), curvature

    def differentiate(self, tangents: list[Tensor], kept: Any, propagated: Tensor | None) -> tuple[Tensor, Bends]:
        (t,) = tangents
        bends = NO_BENDS if propagated is None else Bends([propagated * t])
        return self.times_slope(t, kept, self.setting.over), bends

    def transposed_and_bent(self, r: Tensor, kept: Any, bends: Sequence[Tensor | None]) -> list[Tensor | None]:
        return [bends[0].addcmul_(r, self.slope(kept))] if bends else self.transposed(r, kept)


class Positive(NamedTuple):
    """The value of ReLU: where it is above 0, its derivative is 1."""

    value: Tensor


class Relu(Elementwise):
    """ReLU itself, of the network."""

    def forward(self, inputs: list[Tensor], at_reference: Any = None) -> tuple[Tensor, Positive]:
        (z,) = inputs
        value = z.clamp_(min=0) if self.setting.over else z.clamp(min=0)
        return value, Positive(value)

    def slope(self, kept: Positive) -> Tensor:
        return (kept.value > 0).to(kept.value.dtype)

    def times_slope(self, m: Tensor, kept: Positive, in_place: bool) -> Tensor:
        if in_place:
            return torch.ops.aten.threshold_backward.grad_input(m, kept.value, 0, grad_input=m)
        return torch.ops.aten.threshold_backward(m, kept.value, 0)

    def curvature(self, m: Tensor, kept: Positive) -> None:
        return None


class Slope(NamedTuple):
    """The derivative of an activation."""

    slope: Tensor


class Softplus(Elementwise):
    """ReLU, smoothed by the surrogate."""

    def forward(self, inputs: list[Tensor], at_reference: Any = None) -> tuple[Tensor, Slope]:
        value, slope = softplus_and_slope(*inputs, self.setting.beta, in_place=self.setting.over)
        return value, Slope(slope)

    def slope(self, kept: Slope) -> Tensor:
        return kept.slope

    def curvature(self, m: Tensor, kept: Slope) -> Tensor:
        curvature = torch.ops.aten.sigmoid_backward(m, kept.slope)  # m s (1 - s), in one pass
        return times(self.setting.beta, curvature)


def relu(step: Step, setting: Setting) -> Elementwise:
    """Return the operation of ReLU, or of the softplus in its place."""
    return Relu(step, setting) if math.isinf(setting.beta) else Softplus(step, setting)


class Curve(NamedTuple):
    """Where an activation is, and its derivative there."""

    z: Tensor
    slope: Tensor


class ClosedForm(Elementwise):
    """An activation of which value and derivatives are written down in `CLOSED_FORMS`."""

    def forward(self, inputs: list[Tensor], at_reference: Any = None) -> tuple[Tensor, Curve]:
        (z,) = inputs
        first, _ = CLOSED_FORMS[self.step.function]
        value, slope = first(z)
        return value, Curve(z, slope)

    def slope(self, kept: Curve) -> Tensor:
        return kept.slope

    def curvature(self, m: Tensor, kept: Curve) -> Tensor:
        _, second = CLOSED_FORMS[self.step.function]
        return second(kept.z).mul_(m)


def _gelu(z: Tensor) -> tuple[Tensor, Tensor]:
    below = torch.erf(z * math.sqrt(0.5)).add_(1).mul_(0.5)  # the share of a normal distribution below z
    return z * below, below.addcmul_(z, _bell(z))


def _gelu_second(z: Tensor) -> Tensor:
    return _bell(z).mul_(2 - z.square())


def _bell(z: Tensor) -> Tensor:
    """Return the density of the normal distribution."""
    return z.square().mul_(-0.5).exp_().mul_(1 / math.sqrt(2 * math.pi))


def _silu(z: Tensor) -> tuple[Tensor, Tensor]:
    s = torch.sigmoid(z)
    value = z * s
    return value, s.addcmul(value, 1 - s)


def _silu_second(z: Tensor) -> Tensor:
    s = torch.sigmoid(z)
    return (s * (1 - s)).mul_((1 - 2 * s).mul_(z).add_(2))


CLOSED_FORMS: dict[Callable, tuple[Callable[[Tensor], tuple[Tensor, Tensor]], Callable[[Tensor], Tensor]]] = {
    F.gelu: (_gelu, _gelu_second),  # value and derivative, and second derivative
    F.silu: (_silu, _silu_second),
}


def has_closed_form(step: Step) -> bool:
    """Return whether an activation is in `CLOSED_FORMS`, and not a variant of it."""
    if step.function not in CLOSED_FORMS or step.given is None:
        return False
    arguments, options = step.given
    return len(arguments) == 1 and options in ({}, {"approximate": "none"})


class Clip(NamedTuple):
    """The derivative f' of a clipped value, and f'' / (beta f'): how it leans to the side on which it is steeper."""

    slope: Tensor
    lean: Tensor


class Clipped(Elementwise):
    """A value clipped to an interval [a, b], smoothed by the surrogate: one softplus less another.

    With s = sigmoid(beta (z - a)) and u = sigmoid(beta (b - z)) it is z + log(u / s) / beta, its derivative
    s u (1 - exp(-beta (b - a))), and the derivative of that beta (u - s) times as large: without a difference of two
    numbers close to each other, on either side.
    """

    def forward(self, inputs: list[Tensor], at_reference: Any = None) -> tuple[Tensor, Clip]:
        (z,), (low, high), beta = inputs, clip_bounds(self.step), self.setting.beta
        ends = clip_range(low, high, beta, z.dtype)
        z = z.clamp_(*ends) if self.setting.over else z.clamp(*ends)
        above, below = (torch.sigmoid_(times(beta, distance)) for distance in (z - low, high - z))
        value = z.add_((below / above).log_(), alpha=1 / beta).clamp_(low, high)
        slope = F.threshold_(above * below, math.exp(-tail(z.dtype)) * 1.01, 0)  # at the ends it is constant
        return value, Clip(times(-math.expm1(beta * (low - high)), slope), below.sub_(above))

    def slope(self, kept: Clip) -> Tensor:
        return kept.slope

    def curvature(self, m: Tensor, kept: Clip) -> Tensor:
        return times(self.setting.beta, (m * kept.slope).mul_(kept.lean))


def is_smooth_clip(step: Step, beta: float) -> bool:
    """Return whether a step clips between two numbers, and the surrogate smooths it."""
    return math.isfinite(beta) and clip_bounds(step) is not None


def clip_bounds(step: Step) -> tuple[float, float] | None:
    """Return between which finite numbers a step clips, the lower first; None if it does something else."""
    if step.function is F.relu6:
        return 0.0, 6.0
    if step.function not in CLIPS or step.given is None:
        return None
    bounds = CLIPS[step.function]
    given = bounds | named(step, "x", *bounds)
    low, high = (given[name] for name in bounds)
    known = all(isinstance(bound, int | float) for bound in (low, high))
    return (low, high) if known and -math.inf < low < high < math.inf else None


CLIPS: dict[Callable, dict[str, float | None]] = {  # the names of the bounds, and what they are by default
    F.hardtanh: {"min_val": -1.0, "max_val": 1.0},
    **{clamp: {"min": None, "max": None} for clamp in (torch.clamp, Tensor.clamp, torch.clip, Tensor.clip)},
}


class SlopeGraph(NamedTuple):
    """The derivative of an activation, with the graph that leads to it."""

    slope: Tensor
    z: Tensor


class ElementwiseByAutograd(Elementwise):
    """Any other activation: autograd differentiates it, within the step."""

    own = False

    def forward(self, inputs: list[Tensor], at_reference: Any = None) -> tuple[Tensor, SlopeGraph]:
        value, (z,) = within_step(self.step, self.setting._replace(over=False), inputs)
        with torch.enable_grad():
            ones = torch.ones_like(value)  # not the sum's, which would give the slope another layout in memory
            (slope,) = torch.autograd.grad(value, z, ones, create_graph=True)
        return value.detach(), SlopeGraph(slope, z)

    def slope(self, kept: SlopeGraph) -> Tensor:
        return kept.slope.detach()

    def curvature(self, m: Tensor, kept: SlopeGraph) -> Tensor | None:
        if not kept.slope.requires_grad:  # piecewise linear
            return None
        (curvature,) = torch.autograd.grad(kept.slope, kept.z, m, retain_graph=True, materialize_grads=True)
        return None if curvature._is_zerotensor() else curvature  # zeros without memory, of absolute values
