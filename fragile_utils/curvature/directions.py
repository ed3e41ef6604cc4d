"""How score and gradient bend along a direction."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from fragile_utils import saliency
from fragile_utils._base import checks, memory, precision
from fragile_utils.curvature.hessian import product


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Return the cosine (N,) of the angle between two batches of images or directions (N, ...); NaN for zero."""
    if not (isinstance(a, Tensor) and isinstance(b, Tensor)) or a.shape != b.shape:
        got = f"{checks.described(a)} and {checks.described(b)}"
        raise ValueError(f"expected two batches of directions (N, ...) of one shape, got {got}")
    a, b = a.detach().flatten(1), b.detach().flatten(1)
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))


@dataclass(frozen=True)
class Curvature:
    """How the score bends along a direction d of any length.

    Attributes
    ----------
    along : Tensor (N,)
        d^T H d / |d|^2: the second derivative of the score along d.
    turning : Tensor (N,)
        |H d| / |d|: how fast the gradient, and with it the explanation, changes along d. At most the largest magnitude
        of an eigenvalue, and equal to it for its eigenvector.
    """

    along: Tensor
    turning: Tensor


def along(model: nn.Module, images: Tensor, targets: Tensor, directions: Tensor) -> Curvature:
    """Return the curvature of each image's class score along its direction (N, 3, H, W), not zero."""
    products, d = product(model, images, targets, directions).flatten(1), directions.flatten(1)
    lengths = d.norm(dim=1)
    if (lengths == 0).any():
        raise ValueError("directions: expected no direction of length zero")
    return Curvature((d * products).sum(1) / lengths.square(), products.norm(dim=1) / lengths)


@dataclass(frozen=True)
class Change:
    """What becomes of the gradient at x + eps d, and what H d says of it.

    Attributes
    ----------
    eps : tuple of float
        The E steps that were taken.
    real, predicted : Tensor (E, N)
        The norms of the change of the gradient and of eps H d, relative to the norm of the gradient at x.
    error : Tensor (E, N)
        |real change - eps H d| / |real change|. To predict no change at all has an error of 1;
        NaN where nothing changes.
    cosine : Tensor (E, N)
        Of the angle between the two.
    """

    eps: tuple[float, ...]
    real: Tensor = field(repr=False)
    predicted: Tensor = field(repr=False)
    error: Tensor = field(repr=False)
    cosine: Tensor = field(repr=False)

    def reach(self, level: float = 0.5) -> Tensor:
        """Return the eps (N,) at which the error first passes `level`, interpolated linearly in the logarithm of eps.

        NaN where it does not, or is above it already at the first eps.
        """
        log_eps = torch.tensor(self.eps, dtype=torch.float64).log().to(self.error.device, self.error.dtype)
        above = self.error > level
        after = above.to(torch.uint8).argmax(0)  # the first above
        before = (after - 1).clamp(min=0)
        low, high = (self.error.gather(0, i[None])[0] for i in (before, after))
        log = torch.lerp(log_eps[before], log_eps[after], (level - low) / (high - low))
        return torch.where(above.any(0) & (after > 0), log.exp(), torch.nan)


def change(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    directions: Tensor,
    eps: Sequence[float],
    *,
    measured_on: nn.Module | None = None,
) -> Change:
    """Compare the change of the gradient at x + eps d with its first-order prediction eps H d.

    Parameters
    ----------
    model, images, targets
        As for `Hessian`.
    directions : Tensor (N, 3, H, W)
        d, at its own length: of signs, for instance, so that eps is the budget in units of images in [0, 1]. Pixels are
        not cut off at 0 and 1, since that would change the direction.
    eps : sequence of float
        Increasing.
    measured_on : Module, optional
        The model whose gradient is measured, by default `model` itself: the network of which `model` is the surrogate,
        for instance.

    References
    ----------
    Ghorbani, Abid, Zou, *Interpretation of Neural Networks is Fragile*, AAAI 2019: grad S(x + d) - grad S(x) is H d to
    first order.
    """
    if not isinstance(eps, Iterable):
        raise ValueError(f"eps: expected a sequence of numbers, got {eps!r}")
    eps = tuple(checks.positive(e, "eps") for e in eps)
    if not eps or list(eps) != sorted(set(eps)):
        raise ValueError(f"eps: expected increasing numbers, got {eps}")
    products = product(model, images, targets, directions).flatten(1)
    measured_on = model if measured_on is None else checks.evaluation_mode(measured_on)
    size = memory.images_at_once(measured_on, images, False)

    @precision.float32()
    def gradient(x: Tensor) -> Tensor:
        pairs = zip(x.split(size), targets.split(size), strict=True)
        return torch.cat([saliency.Gradient().explain(measured_on, *pair)[0] for pair in pairs]).flatten(1)

    start = gradient(images)
    real = torch.stack([gradient(images.detach() + e * directions) - start for e in eps])
    predicted = products * torch.tensor(eps, dtype=images.dtype, device=images.device)[:, None, None]
    norm = real.norm(dim=2)
    return Change(
        eps=eps,
        real=norm / start.norm(dim=1),
        predicted=predicted.norm(dim=2) / start.norm(dim=1),
        error=(real - predicted).norm(dim=2) / norm,
        cosine=(real * predicted).sum(2) / (norm * predicted.norm(dim=2)),
    )
