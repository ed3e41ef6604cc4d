"""What an attribution method is, and how its attributions become a saliency map."""

import torch
from torch import Tensor, nn

from fragile_utils._base import checks, precision
from fragile_utils._base.held import PerImage
from fragile_utils.models.door import check_network


def normalize(attributions: Tensor) -> Tensor:
    """Return the saliency maps (N, H, W) of signed attributions (N, 3, H, W), by the paper's convention.

    Absolute value, summed over the channels, divided by its sum: non-negative, with sum 1. Attributions that are zero
    everywhere say nothing about where to look, and give a map of zeros.
    """
    magnitude = attributions.abs().sum(dim=1)
    total = magnitude.sum(dim=(1, 2), keepdim=True)
    return magnitude / torch.where(total > 0, total, 1)


def finite(values: Tensor) -> Tensor:
    """Return whether all of each image's values (N, ...) are finite (N,), bool."""
    return values.detach().isfinite().flatten(1).all(dim=1)


class Method(PerImage):
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
            If an argument is not as described, or an attribution is not finite.
        """
        return normalize(self.attribute(model, images, targets, create_graph))

    def attribute(self, model: nn.Module, images: Tensor, targets: Tensor, create_graph: bool = False) -> Tensor:
        """Return the signed attributions (N, 3, H, W); arguments and errors as for a call."""
        checks.evaluation_mode(model)
        checks.images(images)
        checks.labels(targets, len(images), name="targets", device=images.device)
        check_network(model, images, classes=1)  # a score can be explained
        with precision.float32():
            attributions, logits = self.explain(model, images, targets, create_graph)
        checks.logits(logits, len(images))
        checks.labels(targets, len(images), logits.shape[1], name="targets")
        if wrong := (~finite(attributions)).nonzero().flatten().tolist():
            raise ValueError(
                f"{type(self).__name__}: expected finite attributions, got NaN or infinity for {len(wrong)} of "
                f"{len(images)} images, first for images[{wrong[0]}]; leave such images out"
            )
        return attributions

    def explain(
        self, model: nn.Module, images: Tensor, targets: Tensor, create_graph: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Return the signed attributions (N, 3, H, W) and the logits (N, classes), from one forward pass, unchecked."""
        raise TypeError(f"{type(self).__name__} does not say how it explains: expected it to define explain()")

    def attributions(self, model: nn.Module, images: Tensor, targets: Tensor, create_graph: bool = False) -> Tensor:
        """Return what `explain` does, without the logits: where nobody reads them, they need not be computed."""
        return self.explain(model, images, targets, create_graph)[0]

    def guide(self) -> "Method":
        """Return the method that an attack on this one takes its directions from: itself, or one that is cheaper."""
        return self


class LogitsOnDemand(Method):
    """A method whose logits cost something of their own. A subclass says in `explained` how it explains."""

    def explain(
        self, model: nn.Module, images: Tensor, targets: Tensor, create_graph: bool = False
    ) -> tuple[Tensor, Tensor]:
        return self.explained(model, images, targets, create_graph, True)

    def attributions(self, model: nn.Module, images: Tensor, targets: Tensor, create_graph: bool = False) -> Tensor:
        return self.explained(model, images, targets, create_graph, False)[0]

    def explained(
        self, model: nn.Module, images: Tensor, targets: Tensor, create_graph: bool, logits: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Return what `explain` does; without `logits` they need not be computed, and may be None."""
        raise TypeError(f"{type(self).__name__} does not say how it explains: expected it to define explained()")


def leaf(images: Tensor, create_graph: bool) -> Tensor:
    """Return images of which a graph can begin: these with `create_graph`, if they have one, else the same apart."""
    return images if create_graph and images.requires_grad else images.detach().requires_grad_()


def answer(attributions: Tensor, logits: Tensor, create_graph: bool) -> tuple[Tensor, Tensor]:
    """Return what `Method.explain` does: without `create_graph` both are constants."""
    return (attributions, logits) if create_graph else (attributions.detach(), logits.detach())


def class_scores(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the logit (N,) of each image's target class.

    A class that the model does not have is for the caller to refuse, once; here it must only not crash a GPU.
    """
    checks.logits_shape(logits, len(targets))
    return logits.gather(1, targets.clamp(max=logits.shape[1] - 1)[:, None]).squeeze(1)


def logits_of(model: nn.Module, images: Tensor, create_graph: bool) -> Tensor:
    with torch.set_grad_enabled(create_graph):
        return checks.logits_shape(model(images), len(images))
