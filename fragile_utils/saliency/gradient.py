"""The simple gradient, and the gradient times the image."""

import contextlib
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from fragile_utils.saliency.method import LogitsOnDemand, Method, class_scores, leaf
from fragile_utils.saliency.propagation.passes import multipliers, stands_in_for_autograd, walks_are_quicker
from fragile_utils.saliency.propagation.steps import Untraceable


@dataclass(frozen=True)
class Gradient(LogitsOnDemand):
    """The simple gradient of the class score S_l (pre-softmax) with respect to the image.

    References
    ----------
    Simonyan, Vedaldi, Zisserman, *Deep Inside Convolutional Networks*, 2013, arXiv:1312.6034, section 3.
    """

    def explained(
        self, model: nn.Module, images: Tensor, targets: Tensor, create_graph: bool, logits: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Return gradients and logits: by walks where they may stand in for autograd, which is slower."""
        if stands_in_for_autograd(model) if create_graph else walks_are_quicker(model, images):
            with contextlib.suppress(Untraceable):
                return multipliers(model, images, targets, create_graph, logits=logits)
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):  # the other kernels have no second derivative
            images = leaf(images, create_graph)
            found = model(images)
            gradient = _slope(class_scores(found, targets), images, create_graph)
        return gradient, found if create_graph else found.detach()


def _slope(scores: Tensor, images: Tensor, create_graph: bool) -> Tensor:
    """Return the gradient of scores (N,) with respect to images, or refuse scores that autograd cannot follow."""
    gradient = None
    if scores.requires_grad:
        (gradient,) = torch.autograd.grad(scores.sum(), images, create_graph=create_graph, allow_unused=True)
    if gradient is None:
        got = "constants (torch.no_grad or detach in the network?)"
        raise ValueError(f"model: expected scores that depend on the image, got {got}")
    return gradient


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
