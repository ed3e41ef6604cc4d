"""Saliency maps (feature-importance maps): how much each pixel matters to the score of a class.

Each method is a value with its parameters, called as ``method(model, images, targets)``. All are differentiable with
respect to the image (``create_graph=True``), which is what an attack on an explanation climbs.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fragile_utils import checks


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
        attributions, _ = self.explain(model, images, targets, create_graph)
        return attributions

    def explain(
        self, model: nn.Module, images: Tensor, targets: Tensor, create_graph: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Return the signed attributions (N, 3, H, W) and the logits (N, classes), from one forward pass, unchecked."""
        raise TypeError(f"{type(self).__name__} does not say how it explains: expected it to define explain()")


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


def class_scores(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the logit (N,) of each image's target class, refusing a class that the model does not have."""
    checks.logits(logits, len(targets))
    checks.labels(targets, len(targets), logits.shape[1], "targets")
    return logits.gather(1, targets[:, None]).squeeze(1)


METHODS = {"gradient": Gradient}
