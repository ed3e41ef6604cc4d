"""Grad-CAM: the channels of a layer, weighted by their gradients."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from fragile_utils._base import checks
from fragile_utils.models.surrogate import SoftplusSurrogate
from fragile_utils.saliency.method import Method, class_scores


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
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):  # the other kernels have no second derivative
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
