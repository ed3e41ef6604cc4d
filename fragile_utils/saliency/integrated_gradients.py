"""Integrated gradients: the gradient averaged along a path from a baseline to the image."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from fragile_utils._base import checks
from fragile_utils.saliency._sums import as_batch, check_chunk, in_chunks
from fragile_utils.saliency.baseline import Baseline
from fragile_utils.saliency.gradient import Gradient
from fragile_utils.saliency.method import LogitsOnDemand, logits_of

GUIDE_STEPS = 10  # points of integrated gradients in the direction of an attack


@dataclass(frozen=True)
class IntegratedGradients(LogitsOnDemand):
    """The gradient averaged along the straight path from a baseline x0 to the image, times (x - x0).

    Attributions sum to the difference of the scores of image and baseline, but for the error of the sum over `steps`.
    The graphs of all path points are never held at once; see module ``_sums``.

    Parameters
    ----------
    steps : int
        M, the number of points on the path.
    baseline : Baseline, or what one is made of
        The paper's by default: the mean that the model subtracts.
    rule : str
        Where the points lie. "riemann_right": at k / M for k = 1..M, the paper's. Others, as in Captum:
        "riemann_left", "riemann_middle", "riemann_trapezoid", "gausslegendre".
    chunk : int, optional
        How many images (path points times images of the batch) to hold the graphs of at a time. By default, as many as
        the free memory allows (`memory.images_at_once`), and the graphs of those that came first until they are
        differentiated (`memory.images_held`); the others are computed twice. It changes the result by rounding only.

    References
    ----------
    Sundararajan, Taly, Yan, *Axiomatic Attribution for Deep Networks*, ICML 2017, arXiv:1703.01365, equations 1 and 3.
    """

    steps: int = 100
    baseline: Baseline | str | float | Tensor = "mean"
    rule: str = "riemann_right"
    chunk: int | None = None

    def __post_init__(self) -> None:
        checks.count(self.steps, "steps")
        object.__setattr__(self, "baseline", Baseline(self.baseline))
        if self.rule not in PATHS:
            raise ValueError(f"rule: expected one of {', '.join(PATHS)}, got {self.rule!r}")
        if self.rule == "riemann_trapezoid" and self.steps == 1:
            raise ValueError("steps: expected at least 2 for riemann_trapezoid, got 1")
        check_chunk(self.chunk)

    def guide(self) -> "IntegratedGradients":
        """Return the same with at most 10 points, by Gauss-Legendre quadrature, for the direction of an attack."""
        if self.steps <= GUIDE_STEPS:
            return self
        return replace(self, steps=GUIDE_STEPS, rule="gausslegendre")

    def explained(
        self, model: nn.Module, images: Tensor, targets: Tensor, create_graph: bool, logits: bool
    ) -> tuple[Tensor, Tensor | None]:
        baseline = self.baseline
        reference = None if baseline.follows else baseline.image_in_a_run(model, images)
        places, weights = (images.new_tensor(t).view(-1, 1, 1, 1, 1) for t in PATHS[self.rule](self.steps))

        def part(x: Tensor, rows: slice, points: slice, create_graph: bool) -> tuple[Tensor, Tensor | None]:
            some = rows if reference is not None and len(reference) > 1 else slice(None)
            x0 = baseline.image(model, x) if reference is None else reference[some]  # what follows x, with derivative
            path = as_batch(torch.lerp(x0, x, places[points]), like=x)  # a point of all images, then the next point
            repeated = targets[rows].repeat(len(path) // len(x))
            gradients = Gradient().attributions(model, path, repeated, create_graph)
            mean = (gradients.unflatten(0, (-1, len(x))) * weights[points]).sum(0)
            last = logits and points.stop >= self.steps
            return (x - x0) * mean, logits_of(model, x, create_graph) if last else None

        return in_chunks(part, model, images, self.steps, self.chunk, create_graph)


def _gauss_legendre(steps: int) -> tuple[list[float], list[float]]:
    places, weights = np.polynomial.legendre.leggauss(steps)  # on [-1, 1]
    return ((places + 1) / 2).tolist(), (weights / 2).tolist()


def _trapezoid(steps: int) -> tuple[list[float], list[float]]:
    last = steps - 1  # also the number of pieces: Captum divides by the number of points, so that its weights miss 1
    return [k / last for k in range(steps)], [(0.5 if k in (0, last) else 1) / last for k in range(steps)]


# From a number of steps to the places on the path, from 0 to 1, and their weights.
PATHS: dict[str, Callable[[int], tuple[list[float], list[float]]]] = {
    "riemann_right": lambda steps: ([(k + 1) / steps for k in range(steps)], [1 / steps] * steps),
    "riemann_left": lambda steps: ([k / steps for k in range(steps)], [1 / steps] * steps),
    "riemann_middle": lambda steps: ([(k + 0.5) / steps for k in range(steps)], [1 / steps] * steps),
    "riemann_trapezoid": _trapezoid,
    "gausslegendre": _gauss_legendre,
}
