"""Methods made of gradients: the simple gradient, its averages along a path (integrated gradients) and over noise."""

import contextlib
import functools
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fragile_utils import checks, chunks, tangents, tracing
from fragile_utils.baseline import Baseline
from fragile_utils.method import Method, class_scores, logits_of

GUIDE_STEPS = 10  # points of integrated gradients in the direction of an attack


@dataclass(frozen=True)
class Gradient(Method):
    """The simple gradient of the class score S_l (pre-softmax) with respect to the image.

    References
    ----------
    Simonyan, Vedaldi, Zisserman, *Deep Inside Convolutional Networks*, 2013, arXiv:1312.6034, section 3.
    """

    def explain(
        self, model: nn.Module, images: Tensor, targets: Tensor, create_graph: bool = False
    ) -> tuple[Tensor, Tensor]:
        if create_graph and tangents.applicable(model):
            with contextlib.suppress(tracing.Untraceable):
                return tangents.multipliers(model, images, targets)
        with torch.enable_grad():
            images = images if create_graph and images.requires_grad else images.detach().requires_grad_()
            logits = model(images)
            scores = class_scores(logits, targets)
            (gradient,) = torch.autograd.grad(scores.sum(), images, create_graph=create_graph)
        return gradient, logits if create_graph else logits.detach()


@dataclass(frozen=True)
class InputXGradient(Method):
    """The gradient times the image: the first-order Taylor term between a black image and this one.

    References
    ----------
    Shrikumar et al., *Not Just a Black Box*, 2016, arXiv:1605.01713.
    """

    def explain(
        self, model: nn.Module, images: Tensor, targets: Tensor, create_graph: bool = False
    ) -> tuple[Tensor, Tensor]:
        gradient, logits = Gradient().explain(model, images, targets, create_graph)
        return gradient * (images if create_graph else images.detach()), logits


@dataclass(frozen=True)
class IntegratedGradients(Method):
    """The gradient averaged along the straight path from a baseline x0 to the image, times (x - x0).

    Attributions sum to the difference of the scores of image and baseline, but for the error of the sum over `steps`.
    The graphs of all path points are never held at once; see `chunks`.

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
        the free memory allows (`chunks.images_at_once`). It changes the result by rounding only.

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
        if self.rule not in chunks.PATHS:
            raise ValueError(f"rule: expected one of {', '.join(chunks.PATHS)}, got {self.rule!r}")
        if self.rule == "riemann_trapezoid" and self.steps == 1:
            raise ValueError("steps: expected at least 2 for riemann_trapezoid, got 1")
        _checked_chunk(self.chunk)

    def guide(self) -> "IntegratedGradients":
        """Return the same with at most 10 points, by Gauss-Legendre quadrature, for the direction of an attack."""
        if self.steps <= GUIDE_STEPS:
            return self
        return replace(self, steps=GUIDE_STEPS, rule="gausslegendre")

    def explain(
        self, model: nn.Module, images: Tensor, targets: Tensor, create_graph: bool = False
    ) -> tuple[Tensor, Tensor]:
        reference = self.baseline.image(model, images)
        places, weights = (torch.tensor(t).to(images).view(-1, 1, 1, 1, 1) for t in chunks.PATHS[self.rule](self.steps))

        def part(x: Tensor, rows: slice, points: slice, create_graph: bool) -> tuple[Tensor, Tensor | None]:
            x0 = reference[rows] if len(reference) > 1 else reference
            path = _batch(torch.lerp(x0, x, places[points]), like=x)  # a point of all images, then the next point
            repeated = targets[rows].repeat(len(path) // len(x))
            gradients, logits = Gradient().explain(model, path, repeated, create_graph)
            mean = (gradients.unflatten(0, (-1, len(x))) * weights[points]).sum(0)
            if points.stop < self.steps:
                logits = None
            else:
                logits = logits[-len(x) :] if self.rule == "riemann_right" else logits_of(model, x, create_graph)
            return (x - x0) * mean, logits

        return _in_chunks(part, model, images, self.steps, self.chunk, create_graph)


@dataclass(frozen=True)
class SmoothGrad(Method):
    """Any method, averaged over copies of the image with Gaussian noise.

    Parameters
    ----------
    method : Method
        What is averaged.
    samples : int
        The number of noisy copies.
    sigma : float
        Standard deviation of the noise, in units of images in [0, 1]. Noisy copies are not clipped.
    seed : int
        Of the noise, which is the same for each image and on each call and device.
    chunk : int, optional
        As for `IntegratedGradients`: how many noisy images to hold the graphs of at a time.

    References
    ----------
    Smilkov et al., *SmoothGrad: Removing Noise by Adding Noise*, 2017, arXiv:1706.03825.
    """

    method: Method = Gradient()
    samples: int = 50
    sigma: float = 0.15
    seed: int = 0
    chunk: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.method, Method):
            raise ValueError(f"method: expected a saliency method, got {self.method!r}")
        checks.count(self.samples, "samples")
        checks.positive(self.sigma, "sigma")
        checks.seed(self.seed)
        _checked_chunk(self.chunk)

    def explain(
        self, model: nn.Module, images: Tensor, targets: Tensor, create_graph: bool = False
    ) -> tuple[Tensor, Tensor]:
        noise = self.sigma * _noise(self.seed, (self.samples, 1, *images.shape[1:])).to(images)

        def part(x: Tensor, rows: slice, points: slice, create_graph: bool) -> tuple[Tensor, Tensor | None]:
            noisy = _batch(x + noise[points], like=x)
            repeated = targets[rows].repeat(len(noisy) // len(x))
            attributions, _ = self.method.explain(model, noisy, repeated, create_graph)
            mean = attributions.unflatten(0, (-1, len(x))).sum(0) / self.samples
            return mean, None if points.stop < self.samples else logits_of(model, x, create_graph)

        return _in_chunks(part, model, images, self.samples, self.chunk, create_graph)


# --- Pieces that the averages share -----------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1)  # an attack asks for the same at each step
def _noise(seed: int, shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _batch(points: Tensor, like: Tensor) -> Tensor:
    """Return points (P, N, 3, H, W) as a batch (P N, 3, H, W), in the memory layout of `like`."""
    last = torch.channels_last
    channels_last = like.is_contiguous(memory_format=last) and not like.is_contiguous()
    return points.flatten(0, 1).contiguous(memory_format=last if channels_last else torch.contiguous_format)


def _checked_chunk(chunk: int | None) -> None:
    if chunk is not None:
        checks.count(chunk, "chunk")


def _in_chunks(
    part: chunks.Part, model: nn.Module, images: Tensor, points: int, chunk: int | None, create_graph: bool
) -> tuple[Tensor, Tensor]:
    at_once = chunk or chunks.images_at_once(model, images, create_graph)
    return chunks.accumulate(part, images, chunks.blocks(len(images), points, at_once), create_graph)
