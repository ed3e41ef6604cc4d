"""DeepLIFT: the method, its rescale rule, and what the rule makes of activations and max pools."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fragile_utils.saliency.baseline import Baseline
from fragile_utils.saliency.method import LogitsOnDemand
from fragile_utils.saliency.propagation.elementwise import Elementwise
from fragile_utils.saliency.propagation.kinds import Kind
from fragile_utils.saliency.propagation.operation import Bends, Operation, Setting
from fragile_utils.saliency.propagation.operations import derivative
from fragile_utils.saliency.propagation.pooling import MaxPool, taken
from fragile_utils.saliency.propagation.propagate import propagate
from fragile_utils.saliency.propagation.rule import Rule
from fragile_utils.saliency.propagation.steps import Step, Untraceable


@dataclass(frozen=True)
class DeepLift(LogitsOnDemand):
    """DeepLIFT with the rescale rule: contributions to the difference of the scores of image and reference.

    They sum to that difference exactly. A network of layers without a rule is refused; see `Rescale`.

    Parameters
    ----------
    baseline : Baseline, or what one is made of
        The reference x0; the paper's by default, the mean that the model subtracts.

    References
    ----------
    Shrikumar, Greenside, Kundaje, *Learning Important Features Through Propagating Activation Differences*, ICML 2017,
    arXiv:1704.02685, section 3.5.1; see `Rescale`.
    """

    baseline: Baseline | str | float | Tensor = "mean"

    def __post_init__(self) -> None:
        object.__setattr__(self, "baseline", Baseline(self.baseline))
        if self.baseline.follows:
            raise ValueError(
                f"baseline: {self.baseline.value!r} follows the image, and DeepLIFT's rule has no derivative for that; "
                "expected 'mean', a number in [0, 1] or a tensor"
            )

    def explained(
        self, model: nn.Module, images: Tensor, targets: Tensor, create_graph: bool, logits: bool
    ) -> tuple[Tensor, Tensor | None]:
        reference = self.baseline.image_in_a_run(model, images)
        multipliers, found = propagate(model, images, targets, Rescale(), reference, create_graph, logits)
        return multipliers * ((images if create_graph else images.detach()) - reference), found


# --- The rule --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rescale(Rule):
    """DeepLIFT's rescale rule: the slope of an activation is (f(x) - f(x0)) / (x - x0), x0 from the reference.

    The contributions (x - x0) m of the pixels sum to the difference of the scores. So do those at each step: in a max
    pool, what the maximum gained goes to the pixel that is the maximum now, and what it lost to the one that was.

    References
    ----------
    Shrikumar, Greenside, Kundaje, *Learning Important Features Through Propagating Activation Differences*, ICML 2017,
    arXiv:1704.02685, section 3.5.1. Max pooling as in Captum, except that a pixel which is the maximum of several
    windows gets the sum of their shares (Captum 0.9 keeps one).
    """

    compares = True

    def is_derivative(self, step: Step) -> bool:
        return step.kind in (Kind.REARRANGE, Kind.CONSTANT, Kind.COMBINE, Kind.WEIGHTED)

    def operation(self, step: Step, setting: Setting) -> Operation:
        if self.is_derivative(step):
            return derivative(step, setting)
        if step.kind in (Kind.HOMOGENEOUS, Kind.ACTIVATION):
            return Secant(step, setting)
        if step.kind is Kind.MAX_POOL:
            return RescaledMaxPool(step, setting)
        raise Untraceable(f"{step} has no propagation rule of DeepLIFT: {step.kind.value}")


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


class AtReference(NamedTuple):
    """Input and value of an activation at the reference."""

    z: Tensor
    value: Tensor


class Between(NamedTuple):
    """An activation between the reference and the image."""

    of_derivative: Any  # what the derivative keeps
    secant: Tensor
    run: Tensor  # z - z0


class Secant(Operation):
    """An activation that hands down by the slope to the reference, s = (f(z) - f(z0)) / (z - z0).

    The slope bends by ds/dz = (f'(z) - s) / (z - z0). Where the points are close, that is a small difference of large
    numbers over a small number: in float32, noise that drowns the rest. There it is the limit, f''(z) / 2.
    """

    def __init__(self, step: Step, setting: Setting) -> None:
        super().__init__(step, setting)
        self.activation: Elementwise = derivative(step, setting._replace(over=False, back=False))

    def forward(self, inputs: list[Tensor], at_reference: AtReference | None = None) -> tuple[Tensor, Any]:
        (z,) = inputs
        value, kept = self.activation.forward([z])
        if at_reference is None:  # this is the reference
            return value, AtReference(z, value)
        run = z.sub_(at_reference.z) if self.setting.over else z - at_reference.z
        near = run.abs() < TINY
        secant = torch.where(near, self.activation.slope(kept), (value - at_reference.value).div_(run))
        return value, Between(kept, secant, run)

    def transposed(self, m: Tensor, kept: Between) -> list[Tensor | None]:
        return [self.activation.times_slope(m, kept.of_derivative, self.setting.back)]

    def transposed_and_bent(self, r: Tensor, kept: Between, bends: Sequence[Tensor | None]) -> list[Tensor | None]:
        return self.activation.transposed_and_bent(r, kept.of_derivative, bends)

    def propagate(self, m: Tensor, kept: Between, keep: bool) -> tuple[list[Tensor | None], Tensor | None]:
        bend = None
        if keep:
            curvature = self.activation.curvature(m, kept.of_derivative)
            bend = (self.activation.slope(kept.of_derivative) - kept.secant).div_(kept.run).mul_(m)
            bend = torch.where(close(kept.run), 0 if curvature is None else curvature.mul_(0.5), bend)
        return [m.mul_(kept.secant) if self.setting.back else m * kept.secant], bend

    def differentiate(self, tangents: list[Tensor], kept: Between, propagated: Tensor) -> tuple[Tensor, Bends]:
        (t,) = tangents
        bend = propagated * t
        return t.mul_(kept.secant) if self.setting.over else t * kept.secant, Bends([bend])


class PoolAtReference(NamedTuple):
    """Where the maxima of the reference are, its input and its value."""

    indices: Tensor
    x: Tensor
    value: Tensor


class PoolBetween(NamedTuple):
    """A max pool between the reference and the image."""

    indices: Tensor  # of the maxima
    places: Tensor  # to which each window hands its multipliers
    change: Tensor  # of the input at these places
    ratio: Tensor  # of the change of the value to that


class RescaledMaxPool(MaxPool):
    """A max pool that hands what it gained to the pixel that is the maximum, and what it lost to the one that was."""

    def forward(self, inputs: list[Tensor], at_reference: PoolAtReference | None = None) -> tuple[Tensor, Any]:
        (x,) = inputs
        y, indices = self.step.call(x)
        if at_reference is None:  # this is the reference
            return y, PoolAtReference(indices, x, y)
        indices0, x0, y0 = at_reference
        indices0, x0 = indices0.expand_as(indices), x0.expand_as(x)
        gained = y >= y0
        change = torch.where(gained, y - taken(x0, indices), taken(x, indices0) - y0)
        ratio = slope(y - y0, change, gained.to(y.dtype))
        return y, PoolBetween(indices, torch.where(gained, indices, indices0), change, ratio)

    def propagate(self, m: Tensor, kept: PoolBetween, keep: bool) -> tuple[list[Tensor | None], Tensor | None]:
        return [self.put_back(m * kept.ratio, kept.places)], slope(m, kept.change, 0) if keep else None

    def differentiate(self, tangents: list[Tensor], kept: PoolBetween, propagated: Tensor) -> tuple[Tensor, Bends]:
        t = taken(tangents[0], kept.places)
        by_gain = propagated * t
        of_change = self.put_back((by_gain * kept.ratio).neg_(), kept.places)
        return t.mul_(kept.ratio), Bends([of_change], of_value=by_gain)
