"""Saliency maps (feature-importance maps): how much each pixel matters to the score of a class.

Each method is a value with its parameters, called as ``method(model, images, targets)``. All are differentiable with
respect to the image (``create_graph=True``), which is what an attack on an explanation climbs. The exception is
`Captum`, which wraps any method of that library, for comparison.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fragile_utils import checks
from fragile_utils.baseline import Baseline, by_content
from fragile_utils.gradients import Gradient, InputXGradient, IntegratedGradients, SmoothGrad
from fragile_utils.method import Method, class_scores, logits_of, normalize
from fragile_utils.relevance import LRP, DeepLift, DeepTaylor
from fragile_utils.surrogate import SoftplusSurrogate

__all__ = [
    "LRP",
    "METHODS",
    "Captum",
    "DeepLift",
    "DeepTaylor",
    "GradCAM",
    "Gradient",
    "InputXGradient",
    "IntegratedGradients",
    "Method",
    "SmoothGrad",
    "class_scores",
    "normalize",
]


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
                expected = f"layer {self.layer!r}: expected an output (N, channels, h, w)"
                raise ValueError(f"{expected}, got {checks.described(output)}")
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
            expected = f"Captum: expected attributions of shape {tuple(images.shape)}"
            raise ValueError(f"{expected}, got {checks.described(result)}")
        return result.detach(), logits_of(model, images, False)


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
