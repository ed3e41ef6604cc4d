"""Saliency maps (feature-importance maps): how much each pixel matters to the score of a class.

Each method is a value with its parameters, called as ``method(model, images, targets)``. All are differentiable with
respect to the image (``create_graph=True``), which is what an attack on an explanation climbs. The exception is
`Captum`, which wraps any method of that library, for comparison.
"""

import functools
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fragile_utils import checks, chunks, propagation
from fragile_utils.baseline import Baseline, by_content
from fragile_utils.surrogate import SoftplusSurrogate

GUIDE_STEPS = 10  # points of integrated gradients in the direction of an attack


def normalize(attributions: Tensor) -> Tensor:
    """Return the saliency maps (N, H, W) of signed attributions (N, 3, H, W), by the paper's convention.

    Absolute value, summed over the channels, divided by its sum: non-negative, with sum 1. Attributions that are zero
    everywhere say nothing about where to look, and give a map of zeros.
    """
    magnitude = attributions.abs().sum(dim=1)
    total = magnitude.sum(dim=(1, 2), keepdim=True)
    return magnitude / torch.where(total > 0, total, 1)


class Method:
    """An attribution method. A subclass says how in `explain`; callers use the method itself or `attribute`."""

    def __call__(self, model: nn.Module, images: Tensor, targets: Tensor, create_graph: bool = False) -> Tensor:
        """Return the saliency maps (N, H, W), each non-negative with sum 1.

        Parameters
        ----------
        model : Module
            In evaluation mode: images (N, 3, H, W) in [0, 1] to logits (N, classes).
        images : Tensor (N, 3, H, W)
            In [0, 1].
        targets : Tensor (N,)
            The class whose score is explained.
        create_graph : bool
            Whether the result can be differentiated with respect to `images`.

        Raises
        ------
        ValueError
            If an argument is not as described.
        """
        return normalize(self.attribute(model, images, targets, create_graph))

    def attribute(self, model: nn.Module, images: Tensor, targets: Tensor, create_graph: bool = False) -> Tensor:
        """Return the signed attributions (N, 3, H, W); arguments as for a call."""
        checks.evaluation_mode(model)
        checks.images(images)
        checks.labels(targets, len(images), name="targets")
        attributions, logits = self.explain(model, images, targets, create_graph)
        checks.logits(logits, len(images))
        checks.labels(targets, len(images), logits.shape[1], name="targets")
        return attributions

    def explain(
        self, model: nn.Module, images: Tensor, targets: Tensor, create_graph: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Return the signed attributions (N, 3, H, W) and the logits (N, classes), from one forward pass, unchecked."""
        raise TypeError(f"{type(self).__name__} does not say how it explains: expected it to define explain()")

    def guide(self) -> "Method":
        """Return the method that an attack on this one takes its directions from: itself, or one that is cheaper."""
        return self


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
        The paper's by default: the channel mean.
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
                logits = logits[-len(x) :] if self.rule == "riemann_right" else _logits(model, x, create_graph)
            return (x - x0) * mean, logits

        return _in_chunks(part, model, images, self.steps, self.chunk, create_graph)


@dataclass(frozen=True)
class DeepLift(Method):
    """DeepLIFT with the rescale rule: contributions to the difference of the scores of image and reference.

    They sum to that difference exactly. A network of layers without a rule is refused; see `tracing`.

    Parameters
    ----------
    baseline : Baseline, or what one is made of
        The reference x0; the paper's by default, the channel mean.

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
        rules = propagation.Rescale()
        multipliers, logits = propagation.propagate(model, images, targets, rules, reference, create_graph)
        return multipliers * ((images if create_graph else images.detach()) - reference), logits


@dataclass(frozen=True)
class LRP(Method):
    """Layer-wise relevance propagation: the score handed down layer by layer, to each input in proportion to its share.

    Parameters
    ----------
    rule : {"epsilon", "zplus", "alphabeta"}
        How convolutions and linear layers share: by all terms of the sum, by the positive ones, or by the positive and
        the negative ones apart. Other layers follow the epsilon rule.
    epsilon : float
        Added to each denominator, away from zero. The larger, the more relevance weakly activated units swallow.
    alpha, beta : float
        Weights of the positive and the negative terms for "alphabeta": alpha - beta = 1.

    References
    ----------
    Bach et al., *On Pixel-Wise Explanations for Non-Linear Classifier Decisions by Layer-Wise Relevance Propagation*,
    PLoS ONE 2015; see `propagation.EpsilonRule` and `propagation.AlphaBetaRule` for the equations.
    """

    rule: Literal["epsilon", "zplus", "alphabeta"] = "epsilon"
    epsilon: float = 1e-9
    alpha: float = 2.0
    beta: float = 1.0

    def __post_init__(self) -> None:
        checks.positive(self.epsilon, "epsilon")
        checks.positive(self.alpha, "alpha")
        if self.rule not in ("epsilon", "zplus", "alphabeta"):
            raise ValueError(f"rule: expected 'epsilon', 'zplus' or 'alphabeta', got {self.rule!r}")
        if not (isinstance(self.beta, Real) and self.beta >= 0 and math.isclose(self.alpha - self.beta, 1)):
            raise ValueError(f"expected beta >= 0 and alpha - beta = 1, got alpha={self.alpha}, beta={self.beta}")

    def explain(
        self, model: nn.Module, images: Tensor, targets: Tensor, create_graph: bool = False
    ) -> tuple[Tensor, Tensor]:
        if self.rule == "epsilon":
            rules = propagation.EpsilonRule(self.epsilon)
        elif self.rule == "zplus":
            rules = propagation.AlphaBetaRule(self.epsilon, alpha=1.0, beta=0.0)
        else:
            rules = propagation.AlphaBetaRule(self.epsilon, self.alpha, self.beta)
        return propagation.propagate(model, images, targets, rules, create_graph=create_graph)


@dataclass(frozen=True)
class DeepTaylor(Method):
    """Deep Taylor decomposition: the z-box rule in the layer that sees the pixels, the z-plus rule after it.

    References
    ----------
    Montavon et al., *Explaining Nonlinear Classification Decisions with Deep Taylor Decomposition*, Pattern Recognition
    2017, arXiv:1512.02479; see `propagation.DeepTaylorRule`.
    """

    epsilon: float = 1e-9

    def __post_init__(self) -> None:
        checks.positive(self.epsilon, "epsilon")

    def explain(
        self, model: nn.Module, images: Tensor, targets: Tensor, create_graph: bool = False
    ) -> tuple[Tensor, Tensor]:
        rules = propagation.DeepTaylorRule(self.epsilon)
        return propagation.propagate(model, images, targets, rules, create_graph=create_graph)


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
            return mean, None if points.stop < self.samples else _logits(model, x, create_graph)

        return _in_chunks(part, model, images, self.samples, self.chunk, create_graph)


@dataclass(frozen=True)
class GradCAM(Method):
    """The channels of a layer, weighted by the mean of their gradients, and what is positive of their sum.

    The map of the layer is enlarged to the image, bilinearly. It says nothing about colours: each of the three channels
    of the attributions gets a third of it, so that they sum to the map.

    Parameters
    ----------
    layer : str, optional
        Dotted name of the module whose output (N, channels, h, w) is explained, as in ``model.named_modules()``. By
        default the last convolution.

    References
    ----------
    Selvaraju et al., *Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization*, ICCV 2017,
    arXiv:1610.02391, equations 1 and 2.
    """

    layer: str | None = None

    def explain(
        self, model: nn.Module, images: Tensor, targets: Tensor, create_graph: bool = False
    ) -> tuple[Tensor, Tensor]:
        seen = []

        def keep(module: nn.Module, args: Any, output: Tensor) -> Tensor:
            if not isinstance(output, Tensor) or output.ndim != 4:
                got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
                raise ValueError(f"layer {self.layer!r}: expected an output (N, channels, h, w), got {got}")
            seen.append(output if output.requires_grad else output.requires_grad_())
            return output.clone()  # what follows may work in place

        handle = self._find(model).register_forward_hook(keep)
        with torch.enable_grad():
            images = images if create_graph and images.requires_grad else images.detach().requires_grad_()
            try:
                logits = model(images)
            finally:
                handle.remove()
            if len(seen) != 1:
                raise ValueError(f"layer {self.layer!r}: expected one call in a forward pass, got {len(seen)}")
            scores = class_scores(logits, targets)
            (gradient,) = torch.autograd.grad(scores.sum(), seen[0], create_graph=create_graph)
            maps = (gradient.mean(dim=(2, 3), keepdim=True) * seen[0]).sum(dim=1, keepdim=True).clamp(min=0)
            maps = F.interpolate(maps, images.shape[-2:], mode="bilinear", align_corners=False)
        attributions = maps.expand_as(images) / 3
        return (attributions, logits) if create_graph else (attributions.detach(), logits.detach())

    def _find(self, model: nn.Module) -> nn.Module:
        model = model.model if isinstance(model, SoftplusSurrogate) else model
        modules = dict(model.named_modules())
        if self.layer is None:
            convolutions = [module for module in modules.values() if isinstance(module, nn.Conv2d)]
            if not convolutions:
                raise ValueError("layer: expected its name, since the model has no convolution")
            return convolutions[-1]
        if self.layer not in modules:
            raise ValueError(f"layer: expected the name of a module of the model, got {self.layer!r}")
        return modules[self.layer]


@dataclass(frozen=True, init=False, eq=False)
class Captum(Method):
    """Any attribution method of Captum, to compare with: ``Captum(captum.attr.DeepLift, baselines=Baseline())``.

    It explains; it cannot be attacked, since Captum's attributions have no gradient, or a wrong one.

    Parameters
    ----------
    attribution : callable
        From a model to a Captum attribution: a class such as ``captum.attr.Saliency``, or a function such as
        ``lambda model: NoiseTunnel(Saliency(model))``.
    **arguments
        Passed to its ``attribute``; a `Baseline` as the images that it stands for.

    References
    ----------
    Kokhlikyan et al., *Captum: A unified and generic model interpretability library for PyTorch*, 2020,
    arXiv:2009.07896.
    """

    attribution: Callable[[nn.Module], Any]
    arguments: dict[str, Any]

    def __init__(self, attribution: Callable[[nn.Module], Any], /, **arguments: Any) -> None:
        if not callable(attribution):
            raise ValueError(f"attribution: expected a function from a model to an attribution, got {attribution!r}")
        object.__setattr__(self, "attribution", attribution)
        object.__setattr__(self, "arguments", arguments)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Captum) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash((self.attribution, tuple(sorted(self.arguments))))

    def _key(self) -> tuple:
        return self.attribution, {name: by_content(value) for name, value in self.arguments.items()}

    def explain(
        self, model: nn.Module, images: Tensor, targets: Tensor, create_graph: bool = False
    ) -> tuple[Tensor, Tensor]:
        if create_graph:
            raise ValueError("Captum's attributions cannot be differentiated correctly; take a method of this module")
        images = images.detach()
        arguments = {
            name: value.image(model, images).expand_as(images) if isinstance(value, Baseline) else value
            for name, value in self.arguments.items()
        }
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Setting forward, backward hooks and attributes", UserWarning)
            attribution = self.attribution(model)
            result = attribution.attribute(images.clone().requires_grad_(), target=targets, **arguments)
        if not isinstance(result, Tensor) or result.shape != images.shape:
            got = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
            raise ValueError(f"Captum: expected attributions of shape {tuple(images.shape)}, got {got}")
        return result.detach(), _logits(model, images, False)


METHODS: dict[str, Callable[..., Method]] = {
    "gradient": Gradient,
    "input-x-gradient": InputXGradient,
    "integrated-gradients": IntegratedGradients,
    "deeplift": DeepLift,
    "lrp": LRP,
    "lrp-zplus": lambda **options: LRP(rule="zplus", **options),
    "lrp-alphabeta": lambda **options: LRP(rule="alphabeta", **options),
    "deep-taylor": DeepTaylor,
    "smoothgrad": SmoothGrad,
    "grad-cam": GradCAM,
}


# --- Pieces that methods share ---------------------------------------------------------------------------------------


def class_scores(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the logit (N,) of each image's target class.

    A class that the model does not have is for the caller to refuse, once; here it must only not crash a GPU.
    """
    checks.logits_shape(logits, len(targets))
    return logits.gather(1, targets.clamp(max=logits.shape[1] - 1)[:, None]).squeeze(1)


def _logits(model: nn.Module, images: Tensor, create_graph: bool) -> Tensor:
    with torch.set_grad_enabled(create_graph):
        return checks.logits_shape(model(images), len(images))


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
