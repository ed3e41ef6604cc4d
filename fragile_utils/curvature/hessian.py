"""Curvature in input space: why explanations are fragile.

To first order, a perturbation d changes the gradient of a class score by H d, where H is the Hessian of the score with
respect to the image (Ghorbani, Abid, Zou, *Interpretation of Neural Networks is Fragile*, AAAI 2019). H has 154,587
rows for an image of 227 x 227 pixels. It is never formed: a product H v costs about as much as two gradients, and all
that is asked of H here is made of products.

The score has to be smooth. A network of ReLUs is piecewise linear: its Hessian is zero wherever it exists, although its
gradient jumps from piece to piece. Such a network is refused; take its `softplus_surrogate`, whose beta says over which
width a jump is smeared. That keeps max pools, whose gradient jumps too; `smoothing.smooth_surrogate` leaves no jump.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator
from torch import Tensor, nn

from fragile_utils import checks, chunks, lanczos, precision, saliency
from fragile_utils.surrogate import SoftplusSurrogate, softplus_surrogate


class Hessian:
    """The Hessian H of the class score at each image of a batch, as an operator: ``Hessian(...) @ v`` is H v.

    It holds the graph of all its images; the functions of this module work through a large batch in parts instead.

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
    @torch.enable_grad()
    def __init__(self, model: nn.Module, images: Tensor, targets: Tensor) -> None:
        _check(model, images, targets)
        if images.device.type == "cpu":  # where convolutions are faster in this layout
            images = images.contiguous(memory_format=torch.channels_last)
        self._images = images.detach().requires_grad_()
        self._gradient, logits = saliency.Gradient().explain(model, self._images, targets, create_graph=True)
        checks.logits(logits, len(images))
        checks.labels(targets, len(images), logits.shape[1], name="targets")
        self.gradient = self._gradient.detach()
        self.scores = saliency.class_scores(logits.detach(), targets)

    @precision.float32()
    def __matmul__(self, directions: Tensor) -> Tensor:
        """Return the product (N, 3, H, W) of each image's Hessian with its direction (N, 3, H, W)."""
        _check_directions(directions, self._images)
        if not self._gradient.requires_grad:  # a linear score
            return torch.zeros_like(directions)
        (product,) = torch.autograd.grad(
            self._gradient, self._images, directions, retain_graph=True, materialize_grads=True
        )
        return product

    def flat(self, directions: Tensor) -> Tensor:
        """Return the products of directions given as vectors (N, D), as vectors."""
        return (self @ directions.view_as(self._images)).flatten(1)


def product(model: nn.Module, images: Tensor, targets: Tensor, directions: Tensor) -> Tensor:
    """Return H v for each image and its direction v, both (N, 3, H, W); arguments and errors as for `Hessian`."""
    _check(model, images, targets)
    _check_directions(directions, images)
    return torch.cat([hessian @ directions[rows] for rows, hessian in _parts(model, images, targets)])


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


# --- The spectrum ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Eigenpairs:
    """The eigenvalues of largest magnitude, the largest first.

    Attributes
    ----------
    values : Tensor (N, k)
        In units of the score per squared unit of images in [0, 1].
    vectors : Tensor (N, k, 3, H, W)
        Of length 1, orthogonal to each other; their sign is arbitrary.
    residuals : Tensor (N, k)
        The norm of H v - value v: no eigenvalue is further from an exact one than its residual.
    products : int
        How many Hessian-vector products were taken for each image, at most.
    """

    values: Tensor
    vectors: Tensor = field(repr=False)
    residuals: Tensor = field(repr=False)
    products: int


def eigenpairs(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    k: int = 10,
    *,
    tolerance: float = 1e-3,
    steps: int = 200,
    seed: int = 0,
) -> Eigenpairs:
    """Return the `k` eigenpairs of largest magnitude of each image's Hessian, by the Lanczos method on its device.

    Parameters
    ----------
    model, images, targets
        As for `Hessian`.
    k : int
        How many, at most 3 H W.
    tolerance : float
        The largest residual, as a share of the largest eigenvalue, with which the method is content.
    steps : int
        The largest number of products, whatever the residuals; the result says what they are.
    seed : int
        Image i starts from random numbers of ``seed + i``.
    """
    _check(model, images, targets)
    checks.count(k, "k", at_most=images[0].numel())
    checks.count(steps, "steps")
    if steps < k:
        raise ValueError(f"steps: expected at least k = {k}, got {steps}")
    checks.positive(tolerance, "tolerance")
    start = _draw(images, 1, seed)[:, 0].flatten(1)
    found = [
        lanczos.top(hessian.flat, start[rows], k, tolerance, steps) for rows, hessian in _parts(model, images, targets)
    ]
    values, vectors, residuals = (torch.cat(parts) for parts in list(zip(*found, strict=True))[:3])
    return Eigenpairs(values, vectors.unflatten(2, images.shape[1:]), residuals, max(part[3] for part in found))


@dataclass(frozen=True)
class Spectrum:
    """An estimate of the density of eigenvalues: point masses, most of them in the wrong place, right in the mean.

    Attributes
    ----------
    values, weights : Tensor (N, probes * steps)
        Where the masses are, and how large; the weights of an image sum to 1.
    dimension : int
        How many eigenvalues there are.
    """

    values: Tensor = field(repr=False)
    weights: Tensor = field(repr=False)
    dimension: int

    def mean(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Return an estimate (N,) of the mean of a function over all eigenvalues."""
        return (self.weights * function(self.values)).sum(1)

    def density(self, grid: Tensor, width: float) -> Tensor:
        """Return the density (N, G) at the values of `grid` (G,), each mass drawn as a Gaussian of this width."""
        checks.positive(width, "width")
        z = (grid.to(self.values)[None, :, None] - self.values[:, None, :]) / width
        gaussians = torch.exp(-z.square() / 2) / (width * (2 * torch.pi) ** 0.5)
        return (gaussians * self.weights[:, None, :]).sum(2)


def spectrum(
    model: nn.Module, images: Tensor, targets: Tensor, *, probes: int = 4, steps: int = 30, seed: int = 0
) -> Spectrum:
    """Estimate the density of eigenvalues of each image's Hessian by stochastic Lanczos quadrature.

    Takes ``probes * steps`` products for each image.

    Parameters
    ----------
    model, images, targets
        As for `Hessian`.
    probes : int
        How many random sign vectors to average over.
    steps : int
        Of the Lanczos method for each of them: how finely the density is resolved.
    seed : int
        Image i draws its signs from ``seed + i``.

    References
    ----------
    Ghorbani, Krishnan, Xiao, *An Investigation into Neural Net Optimization via Hessian Eigenvalue Density*, ICML 2019,
    arXiv:1901.10159, which does so for the Hessian with respect to the parameters.
    """
    _check(model, images, targets)
    signs = _draw(images, checks.count(probes, "probes"), seed).sign().flatten(2)
    checks.count(steps, "steps")
    values, weights = [], []
    for rows, hessian in _parts(model, images, targets):
        found = [lanczos.quadrature(hessian.flat, signs[rows, p], steps) for p in range(probes)]
        nodes, masses = zip(*found, strict=True)
        values.append(torch.cat(nodes, dim=1))
        weights.append(torch.cat(masses, dim=1) / probes)
    return Spectrum(torch.cat(values), torch.cat(weights), images[0].numel())


@dataclass(frozen=True)
class Moments:
    """Estimates (N,) of the sum of the eigenvalues and of the sum of their squares, with their standard errors."""

    trace: Tensor
    trace_error: Tensor
    squared_norm: Tensor
    squared_norm_error: Tensor


def moments(model: nn.Module, images: Tensor, targets: Tensor, *, probes: int = 16, seed: int = 0) -> Moments:
    """Estimate trace and squared Frobenius norm of each image's Hessian with random signs s: E s^T H s and E |H s|^2.

    Both come from the same `probes` products. The squared norm says what a random sign perturbation of size eps does to
    the gradient: it changes by eps^2 times that, squared and in the mean.

    References
    ----------
    Hutchinson, *A Stochastic Estimator of the Trace of the Influence Matrix*, Commun. Stat. Simul. Comput. 1989.
    """
    _check(model, images, targets)
    if checks.count(probes, "probes") < 2:
        raise ValueError("probes: expected at least 2, for an error to be estimated, got 1")
    signs = _draw(images, probes, seed).sign()
    traces, norms = [], []
    for rows, hessian in _parts(model, images, targets):
        products = torch.stack([hessian @ signs[rows, p] for p in range(probes)], dim=1).flatten(2).double()
        traces.append((products * signs[rows].flatten(2)).sum(2))
        norms.append(products.square().sum(2))
    of_trace, of_norm = _mean_and_error(torch.cat(traces)), _mean_and_error(torch.cat(norms))
    return Moments(*(t.to(images.dtype) for t in (*of_trace, *of_norm)))


# --- Directions ------------------------------------------------------------------------------------------------------


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Return the cosine (N,) of the angle between two batches of images or directions (N, ...); NaN for zero."""
    if a.shape != b.shape:
        raise ValueError(f"expected two batches of directions of one shape, got {tuple(a.shape)} and {tuple(b.shape)}")
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


def curvature(model: nn.Module, images: Tensor, targets: Tensor, directions: Tensor) -> Curvature:
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
    eps = tuple(checks.positive(e, "eps") for e in eps)
    if not eps or list(eps) != sorted(set(eps)):
        raise ValueError(f"eps: expected increasing numbers, got {eps}")
    products = product(model, images, targets, directions).flatten(1)
    measured_on = model if measured_on is None else checks.evaluation_mode(measured_on)
    size = chunks.images_at_once(measured_on, images, False)

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


# --- Pieces ----------------------------------------------------------------------------------------------------------


def _check(model: nn.Module, images: Tensor, targets: Tensor) -> None:
    checks.evaluation_mode(model)
    checks.images(images)
    checks.labels(targets, len(images), name="targets", device=images.device)
    if isinstance(model, SoftplusSurrogate):
        return
    with torch.no_grad():
        one = images[:1]
        if not torch.allclose(
            checks.logits(model(one), 1), softplus_surrogate(model, 0.01)(one)
        ):  # softplus so wide that it shows
            raise ValueError(
                "model: expected a smooth network, got one that computes ReLU or another piecewise linear activation, "
                "whose Hessian is zero wherever it exists; take softplus_surrogate(model)"
            )


def _check_directions(directions: Tensor, images: Tensor) -> None:
    expected = f"directions: expected a tensor {tuple(images.shape)} of {images.dtype} on {images.device}"
    if not isinstance(directions, Tensor):
        raise ValueError(f"{expected}, got {type(directions).__name__}")
    if (directions.shape, directions.dtype, directions.device) != (images.shape, images.dtype, images.device):
        raise ValueError(f"{expected}, got {tuple(directions.shape)} of {directions.dtype} on {directions.device}")
    if not torch.isfinite(directions).all():
        raise ValueError(f"{expected}, got values that are not finite (NaN or infinity)")


def _parts(model: nn.Module, images: Tensor, targets: Tensor) -> Iterator[tuple[slice, Hessian]]:
    """Yield the rows of as many images as there is memory for, and their Hessian."""
    size = chunks.images_at_once(model, images, True)
    for row in range(0, len(images), size):
        rows = slice(row, row + size)
        yield rows, Hessian(model, images[rows], targets[rows])


def _draw(images: Tensor, count: int, seed: int) -> Tensor:
    """Return normal random numbers (N, count, 3, H, W), the same for an image and seed in any batch, on any device."""
    drawn = [
        torch.randn(count, *images.shape[1:], generator=torch.Generator().manual_seed(seed + i))
        for i in range(len(images))
    ]
    return torch.stack(drawn).to(images)


def _mean_and_error(samples: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean (N,) and its standard error (N,) of samples (N, P)."""
    return samples.mean(1), samples.std(1) / samples.shape[1] ** 0.5
