"""Grad-CAM: the channels of a layer, weighted by their gradients."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from fragile_utils._base import checks
from fragile_utils._base.once import once
from fragile_utils.models.planes import check_plane, plane_is_last
from fragile_utils.models.surrogate import SoftplusSurrogate
from fragile_utils.saliency.method import Method, answer, class_scores, leaf


@dataclass(frozen=True)
class GradCAM(Method):
    """The channels of a layer, weighted by the mean of their gradients, and what is positive of their sum.

    The map of the layer is enlarged to the image, bilinearly. It says nothing about colours: each of the three channels
    of the attributions gets a third of it, so that they sum to the map.

    Parameters
    ----------
    layer : str, optional
        Dotted name of the module whose output (N, channels, h, w) is explained, as in ``model.named_modules()``. By
        default the last convolution: of the modules `torch.nn.Conv2d` whose output has more than one place, h w > 1,
        the one that is called last in a forward pass. Refused, named or not, is a layer that is called more than once
        in a pass, whose output has a single place, or whose channels are not the second axis.

    References
    ----------
    Selvaraju et al., *Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization*, ICCV 2017,
    arXiv:1610.02391, equations 1 and 2.
    """

    layer: str | None = None

    def explain(
        self, model: nn.Module, images: Tensor, targets: Tensor, create_graph: bool = False
    ) -> tuple[Tensor, Tensor]:
        names = self._find(model)
        called: list[str] = []
        last: list[Any] = []  # the last layer with a plane, if there is one, and what it returned

        def keep(module: nn.Module, args: Any, output: Tensor) -> Tensor:
            called.append(names[module])
            if not last or not _has_one_place(output):
                last[:] = [module, output]
            if not _of_an_image(output):
                return output
            if not output.requires_grad:
                output.requires_grad_()
            return output.clone()  # what follows may work in place

        handles = [module.register_forward_hook(keep) for module in names]
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):  # the other kernels have no second derivative
            images = leaf(images, create_graph)
            try:
                logits = model(images)
            finally:
                for handle in handles:
                    handle.remove()
            if self.layer is None and not called:
                raise ValueError("layer: expected its name, since the model has no convolution that it calls")
            name = names[last[0]] if called else self.layer
            if called.count(name) != 1:
                raise ValueError(f"layer {name!r}: expected one call in a forward pass, got {called.count(name)}")
            layer, output = last
            _check(model, layer, f"layer {name!r}: expected an output (N, channels, h, w)", images, output)
            scores, gradient = class_scores(logits, targets), None
            if scores.requires_grad:
                (gradient,) = torch.autograd.grad(scores.sum(), output, create_graph=create_graph, allow_unused=True)
            if gradient is None:
                raise ValueError(f"layer {name!r}: expected an output that the scores depend on, got another")
            maps = (gradient.mean(dim=(2, 3), keepdim=True) * output).sum(dim=1, keepdim=True).clamp(min=0)
            maps = F.interpolate(maps, images.shape[-2:], mode="bilinear", align_corners=False)
        return answer(maps.expand_as(images) / 3, logits, create_graph)

    def _find(self, model: nn.Module) -> dict[nn.Module, str]:
        """Return the layer, or all convolutions, and their names."""
        model = model.model if isinstance(model, SoftplusSurrogate) else model
        modules = dict(model.named_modules())
        if self.layer is None:
            return {module: name for name, module in modules.items() if isinstance(module, nn.Conv2d)}
        if self.layer not in modules:
            raise ValueError(f"layer: expected the name of a module of the model, got {self.layer!r}")
        return {modules[self.layer]: self.layer}


def _of_an_image(output: Any) -> bool:
    return isinstance(output, Tensor) and output.ndim == 4


def _has_one_place(output: Any) -> bool:
    return _of_an_image(output) and output.shape[2:] == (1, 1)


def _check(model: nn.Module, layer: nn.Module, expected: str, images: Tensor, output: Any) -> None:
    """Refuse the output of a layer unless it has an image plane, and that is last."""
    if not _of_an_image(output) or len(output) != len(images):
        raise ValueError(f"{expected}, got {checks.described(output)}")
    if _has_one_place(output):
        raise ValueError(f"{expected} of more than one place, h w > 1, got {tuple(output.shape)}; name another")
    if not plane_is_last(layer):

        def check() -> None:
            check_plane(lambda larger: _shape_for(model, layer, larger), images, output.shape, expected)

        once(f"plane {images.shape[1:]}", (layer, model), check)


def _shape_for(model: nn.Module, layer: nn.Module, images: Tensor) -> torch.Size:
    """Return the shape of what a layer returns for `images`, also where what follows it cannot take them."""
    shapes: list[torch.Size] = []
    handle = layer.register_forward_hook(lambda module, args, output: shapes.append(output.shape))
    try:
        model(images)
    except Exception:  # whatever the network's own code raises
        if not shapes:
            raise
    finally:
        handle.remove()
    return shapes[0]
