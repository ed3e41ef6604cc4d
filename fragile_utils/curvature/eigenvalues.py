"""The spectrum of the Hessian: its largest eigenvalues, its density, its moments."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from fragile_utils._base import checks
from fragile_utils._base.seeds import normal
from fragile_utils.curvature import lanczos
from fragile_utils.curvature.hessian import check_arguments, parts


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
    check_arguments(model, images, targets)
    checks.count(k, "k", at_most=images[0].numel())
    checks.count(steps, "steps")
    if steps < k:
        raise ValueError(f"steps: expected at least k = {k}, got {steps}")
    checks.positive(tolerance, "tolerance")
    start = _draw(images, 1, seed)[:, 0].flatten(1)
    found = [
        lanczos.top(hessian.flat, start[rows], k, tolerance, steps) for rows, hessian in parts(model, images, targets)
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
        if not isinstance(grid, Tensor) or grid.ndim != 1:
            raise ValueError(f"grid: expected a tensor (G,), got {checks.described(grid)}")
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
    check_arguments(model, images, targets)
    signs = _draw(images, checks.count(probes, "probes"), seed).sign().flatten(2)
    checks.count(steps, "steps")
    values, weights = [], []
    for rows, hessian in parts(model, images, targets):
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
    check_arguments(model, images, targets)
    if checks.count(probes, "probes") < 2:
        raise ValueError("probes: expected at least 2, for an error to be estimated, got 1")
    signs = _draw(images, probes, seed).sign()
    traces, norms = [], []
    for rows, hessian in parts(model, images, targets):
        products = torch.stack([hessian @ signs[rows, p] for p in range(probes)], dim=1).flatten(2).double()
        traces.append((products * signs[rows].flatten(2)).sum(2))
        norms.append(products.square().sum(2))
    of_trace, of_norm = _mean_and_error(torch.cat(traces)), _mean_and_error(torch.cat(norms))
    return Moments(*(t.to(images.dtype) for t in (*of_trace, *of_norm)))


def _mean_and_error(samples: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean (N,) and its standard error (N,) of samples (N, P)."""
    return samples.mean(1), samples.std(1) / samples.shape[1] ** 0.5


def _draw(images: Tensor, count: int, seed: int) -> Tensor:
    """Return normal random numbers (N, count, 3, H, W): image i draws its own from ``seed + i``."""
    checks.seed(seed)
    return torch.stack([normal((count, *images.shape[1:]), seed + i) for i in range(len(images))]).to(images)
