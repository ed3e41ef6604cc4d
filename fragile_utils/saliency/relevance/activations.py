"""Activations: they pass relevance on as it is, which multiplies multipliers by f(z) / z."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from fragile_utils.models.softplus import softplus_and_slope
from fragile_utils.saliency.deeplift import close
from fragile_utils.saliency.propagation.elementwise import Elementwise
from fragile_utils.saliency.propagation.operation import Bends, Operation, Setting
from fragile_utils.saliency.propagation.operations import derivative
from fragile_utils.saliency.propagation.steps import Step


class PassedOn(NamedTuple):
    """An activation that passes on its relevance."""

    of_derivative: Any  # what the derivative keeps
    factor: Tensor  # f(z) / z, by which multipliers are multiplied
    z: Tensor


class Ratio(Operation):
    """An activation that passes on its relevance: m f(z) / z."""

    def __init__(self, step: Step, setting: Setting) -> None:
        super().__init__(step, setting)
        self.activation: Elementwise = derivative(step, setting._replace(over=False, back=False))

    def forward(self, inputs: list[Tensor], at_reference: Any = None) -> tuple[Tensor, Any]:
        (z,) = inputs
        value, kept = self.activation.forward([z])
        z = torch.where(z == 0, 1, z)
        return value, PassedOn(kept, value / z, z)

    def transposed(self, m: Tensor, kept: Any) -> list[Tensor | None]:
        return self.activation.transposed(m, kept.of_derivative)

    def propagate(self, m: Tensor, kept: Any, keep: bool) -> tuple[list[Tensor | None], Tensor | None]:
        bend = m * (self.activation.slope(kept.of_derivative) - kept.factor) / kept.z if keep else None
        return [m * kept.factor], bend

    def differentiate(self, tangents: list[Tensor], kept: Any, propagated: Tensor) -> tuple[Tensor, Bends]:
        (t,) = tangents
        return t * kept.factor, Bends([propagated * t])


class BesideReLU(NamedTuple):
    """An activation that is ReLU near 0, of the surrogate: its slope as ReLU has it, and the ratio of the rest."""

    of_derivative: Any  # what the derivative keeps
    slope: Tensor  # s'(z), with s softplus
    ratio: Tensor  # (r(z) - r(0)) / z, with r = f - s
    z: Tensor

    @property
    def factor(self) -> Tensor:
        """By what multipliers are multiplied."""
        return self.slope + self.ratio


class RatioOfReLU(Ratio):
    """ReLU6 of the surrogate, or ReLU up to another value, without the pole that f(z) / z has at 0.

    f is softplus s and a rest r, which is 0 near 0 but for rounding and tails. As for ReLU alone, s'(z) stands in place
    of s(z) / z; the rest has (r(z) - r(0)) / z. The sharper softplus is, the closer to min(z, 6) / z for z above 0.
    """

    def forward(self, inputs: list[Tensor], at_reference: Any = None) -> tuple[Tensor, BesideReLU]:
        (z,) = inputs
        value, kept = self.activation.forward([z])
        softplus, slope = softplus_and_slope(z, self.setting.beta)
        at_zero, _ = self.activation.forward([z.new_zeros(1)])
        rest = (value - softplus) - (at_zero - softplus_and_slope(z.new_zeros(1), self.setting.beta)[0])
        ratio = torch.where(close(z), self.activation.slope(kept) - slope, rest / z)
        return value, BesideReLU(kept, slope, ratio, z)

    def propagate(self, m: Tensor, kept: BesideReLU, keep: bool) -> tuple[list[Tensor | None], Tensor | None]:
        bend = None
        if keep:
            of_softplus = m * kept.slope * (1 - kept.slope) * self.setting.beta
            of_rest = m * (self.activation.slope(kept.of_derivative) - kept.slope - kept.ratio) / kept.z
            curvature = self.activation.curvature(m, kept.of_derivative)
            bend = of_softplus + torch.where(close(kept.z), curvature - of_softplus, of_rest)
        return [m * kept.factor], bend


def is_relu_near_zero(step: Step, setting: Setting) -> bool:
    """Return whether an activation is ReLU between -0.01 and 0.01, and the surrogate's is another."""
    if step.constants:
        return False
    z = torch.linspace(-0.01, 0.01, 3, dtype=torch.float64)
    with setting.activations:
        smoothed = step.call(z)
    return bool(torch.equal(step.call(z), z.clamp(min=0)) and smoothed[1] > 0)
