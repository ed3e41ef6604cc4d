"""DeepLIFT: the method and its rescale rule."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fragile_utils.saliency.baseline import Baseline
from fragile_utils.saliency.method import Method
from fragile_utils.saliency.propagation.operations import (
    Operation,
    RescaledMaxPool,
    SecantOfSoftplus,
    close,
    slope,
    taken,
)
from fragile_utils.saliency.propagation.propagate import propagate
from fragile_utils.saliency.propagation.rule import LocalDerivatives
from fragile_utils.saliency.propagation.trace import MAX_POOL, RELU, Step


@dataclass(frozen=True)
class DeepLift(Method):
    """DeepLIFT with the rescale rule: contributions to the difference of the scores of image and reference.

    They sum to that difference exactly. A network of layers without a rule is refused; see `tracing`.

    Parameters
    ----------
    baseline : Baseline, or what one is made of
        The reference x0; the paper's by default, the mean that the model subtracts.

    References
    ----------
    Shrikumar, Greenside, Kundaje, *Learning Important Features Through Propagating Activation Differences*, ICML 2017,
    arXiv:1704.02685, section 3.5.1; see `propagation.Rescale`.
    """

    baseline: Baseline | str | float | Tensor = "mean"

    def __post_init__(self) -> None:
        object.__setattr__(self, "baseline", Baseline(self.baseline))

    def explain(
        self, model: nn.Module, images: Tensor, targets: Tensor, create_graph: bool = False
    ) -> tuple[Tensor, Tensor]:
        reference = self.baseline.image(model, images)
        rules = Rescale()
        multipliers, logits = propagate(model, images, targets, rules, reference, create_graph)
        return multipliers * ((images if create_graph else images.detach()) - reference), logits


@dataclass(frozen=True)
class Rescale(LocalDerivatives):
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

    def operation(self, step: Step, given: tuple[Any, ...]) -> Operation:
        if step.function in RELU:
            return SecantOfSoftplus(*given)
        return RescaledMaxPool(*given) if step.kind == MAX_POOL else super().operation(step, given)

    def activation(self, step: Step, m: Tensor) -> list[Tensor]:
        reference = step.reference
        slopes = (LocalDerivatives.derivative(self, s, torch.ones_like(s.output.value))[0] for s in (step, reference))
        pairs = ((s.arguments[0], s.output.value) for s in (step, reference))
        return [m * _Secant.apply(*next(pairs), *next(pairs), *slopes)]

    homogeneous = activation

    def max_pool(self, step: Step, m: Tensor) -> list[Tensor]:
        (x,), y, before = step.arguments, step.output.value, step.reference
        (x0,), y0 = before.arguments, before.output.value
        gained = y >= y0
        places = torch.where(gained, step.indices, before.indices)
        share = m * slope(y - y0, taken(x - x0, places), gained.to(y.dtype))
        return [torch.zeros_like(x).flatten(2).scatter_add(2, places.flatten(2), share.flatten(2)).view_as(x)]


class _Secant(torch.autograd.Function):
    """The slope between two points, (y - y0) / (x - x0), as a function of x.

    Its derivative is (f'(x) - slope) / (x - x0). Where the points are close, that is a small difference of large
    numbers over a small number: in float32, noise that drowns the rest. There the slope is (f'(x) + f'(x0)) / 2.
    """

    @staticmethod
    def forward(ctx, x: Tensor, y: Tensor, x0: Tensor, y0: Tensor, slope: Tensor, slope0: Tensor) -> Tensor:
        run = x - x0
        secant = slope(y - y0, run, slope)
        ctx.save_for_backward(run, secant, slope, slope0)
        return secant

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor):
        run, secant, slope, slope0 = ctx.saved_tensors
        rise = torch.where(close(run), (slope - slope0) / 2, slope - secant)
        return grad * slope(rise, run, 0), None, None, None, None, None
