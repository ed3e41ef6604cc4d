"""The Hessian of a class score with respect to the image, as an operator."""

from collections.abc import Iterator

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator
from torch import Tensor, nn

from fragile_utils import saliency
from fragile_utils._base import checks, memory, precision
from fragile_utils.models.door import check_network
from fragile_utils.models.kinks import kinks_left
from fragile_utils.models.surrogate import SoftplusSurrogate, softplus_surrogate


class Hessian:
    """The Hessian H of the class score at each image of a batch, as an operator: ``Hessian(...) @ v`` is H v.

    It holds the graph of all its images; the functions of this room work through a large batch in parts instead.

    Parameters
    ----------
    model : Module
        Smooth, in evaluation mode: images (N, 3, H, W) in [0, 1] to logits (N, classes).
    images : Tensor (N, 3, H, W)
        In [0, 1].
    targets : Tensor (N,)
        The class whose score is meant, for each image.

    Attributes
    ----------
    gradient : Tensor (N, 3, H, W)
        Of the score.
    scores : Tensor (N,)

    Raises
    ------
    ValueError
        If an argument is not as described, or the model computes ReLU or another piecewise linear activation.
    """

    @precision.float32()
    def __init__(self, model: nn.Module, images: Tensor, targets: Tensor) -> None:
        check_arguments(model, images, targets)
        self._differentiate(model, images, targets)

    @classmethod
    def of_checked(cls, model: nn.Module, images: Tensor, targets: Tensor) -> "Hessian":
        """Return that of arguments which `check_arguments` has seen."""
        hessian = cls.__new__(cls)
        hessian._differentiate(model, images, targets)
        return hessian

    @precision.float32()
    @torch.enable_grad()
    def _differentiate(self, model: nn.Module, images: Tensor, targets: Tensor) -> None:
        if images.device.type == "cpu" and check_network(model, images).channels_last:  # where convolutions are faster
            images = images.contiguous(memory_format=torch.channels_last)
        self._model, self._images = model, images.detach().requires_grad_()
        self._gradient, logits = saliency.Gradient().explain(model, self._images, targets, create_graph=True)
        checks.logits(logits, len(images))
        checks.labels(targets, len(images), logits.shape[1], name="targets")
        self.gradient = self._gradient.detach()
        self.scores = saliency.class_scores(logits.detach(), targets)

    @precision.float32()
    def __matmul__(self, directions: Tensor) -> Tensor:
        """Return the product (N, 3, H, W) of each image's Hessian with its direction (N, 3, H, W)."""
        check_directions(directions, self._images)
        if not self._gradient.requires_grad:  # a linear score
            return self._flat_unless_kinked(torch.zeros_like(directions))
        (product,) = torch.autograd.grad(
            self._gradient, self._images, directions, retain_graph=True, materialize_grads=True
        )
        return product if product.any() or not directions.any() else self._flat_unless_kinked(product)

    def _flat_unless_kinked(self, product: Tensor) -> Tensor:
        """Return a product that is zero everywhere, unless the model has kinks of which no Hessian knows."""
        if kinks := kinks_left(self._model, self._images.detach()):
            raise ValueError(
                f"model: its Hessian is zero, since it computes {', '.join(kinks)}, whose kinks no surrogate smooths"
            )
        return product

    def flat(self, directions: Tensor) -> Tensor:
        """Return the products of directions given as vectors (N, D), as vectors."""
        return (self @ directions.view_as(self._images)).flatten(1)


def product(model: nn.Module, images: Tensor, targets: Tensor, directions: Tensor) -> Tensor:
    """Return H v for each image and its direction v, both (N, 3, H, W); arguments and errors as for `Hessian`."""
    check_arguments(model, images, targets)
    check_directions(directions, images)
    return torch.cat([hessian @ directions[rows] for rows, hessian in parts(model, images, targets)])


def linear_operator(model: nn.Module, images: Tensor, targets: Tensor) -> LinearOperator:
    """Return the Hessian at one image (1, 3, H, W) for SciPy: ``eigsh(linear_operator(...), k=10)``.

    Its vectors have D = 3 H W entries, in the order of ``image.flatten()``, and the dtype of the image.
    """
    if len(images) != 1:
        raise ValueError(f"images: expected one image (1, 3, H, W), got {len(images)}")
    hessian = Hessian(model, images, targets)
    size = images.numel()

    def matvec(vector: np.ndarray) -> np.ndarray:
        direction = torch.as_tensor(vector.reshape(1, -1)).to(images)
        return hessian.flat(direction).cpu().numpy()[0]

    dtype = torch.empty(0, dtype=images.dtype).numpy().dtype
    return LinearOperator((size, size), matvec=matvec, rmatvec=matvec, dtype=dtype)


def check_arguments(model: nn.Module, images: Tensor, targets: Tensor) -> None:
    checks.evaluation_mode(model)
    checks.images(images)
    checks.labels(targets, len(images), name="targets", device=images.device)
    check_network(model, images)
    if not isinstance(model, SoftplusSurrogate):
        check_smooth(model, images, "take softplus_surrogate(model)")


@torch.no_grad()
def check_smooth(network: nn.Module, inputs: Tensor, hint: str) -> None:
    """Refuse a network that computes ReLU or the like on what it takes; `hint` says what to do about it."""
    one = inputs[:1]
    # Softplus so wide that it shows.
    if not torch.allclose(checks.logits(network(one), 1), softplus_surrogate(network, 0.01)(one)):
        raise ValueError(
            "model: expected a smooth network, got one that computes ReLU or another piecewise linear activation, "
            f"whose Hessian is zero wherever it exists; {hint}"
        )


def check_directions(directions: Tensor, images: Tensor) -> None:
    expected = f"directions: expected a tensor {tuple(images.shape)} of {images.dtype} on {images.device}"
    if not isinstance(directions, Tensor):
        raise ValueError(f"{expected}, got {type(directions).__name__}")
    if (directions.shape, directions.dtype, directions.device) != (images.shape, images.dtype, images.device):
        raise ValueError(f"{expected}, got {tuple(directions.shape)} of {directions.dtype} on {directions.device}")
    if not torch.isfinite(directions).all():
        raise ValueError(f"{expected}, got values that are not finite (NaN or infinity)")


def parts(model: nn.Module, images: Tensor, targets: Tensor) -> Iterator[tuple[slice, Hessian]]:
    """Yield the rows of as many images as there is memory for, and their Hessian; arguments that have been checked."""
    size = memory.images_at_once(model, images, True)
    for row in range(0, len(images), size):
        rows = slice(row, row + size)
        yield rows, Hessian.of_checked(model, images[rows], targets[rows])
