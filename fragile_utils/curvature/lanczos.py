"""Eigenvalues of a symmetric matrix that is known by its products alone: the Lanczos method, on a batch of matrices.

Each matrix is D x D; an operator takes one vector for each of N matrices, (N, D), to their products, (N, D). All of it
runs on the device and in the dtype of the vectors, but for the eigenvalues of the small tridiagonal matrices.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

Operator = Callable[[Tensor], Tensor]  # (N, D) -> (N, D)


@dataclass(frozen=True)
class Tridiagonal:
    """What m steps of the Lanczos method leave of a matrix A: Q^T A Q = T, tridiagonal, for an orthonormal Q.

    Attributes
    ----------
    diagonal, beside : Tensor (N, m)
        The entries of T on its diagonal and next to it. The last of `beside` is the norm of what T leaves out; where
        it is 0, the space that Q spans is invariant and the eigenvalues of T are eigenvalues of A.
    basis : Tensor (N, m, D)
        The columns of Q, as rows.
    """

    diagonal: Tensor
    beside: Tensor
    basis: Tensor = field(repr=False)

    def ritz(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the eigenvalues of T (N, m), its eigenvectors as columns (N, m, m), and their residuals (N, m).

        A residual is the norm of A v - value v for the vector v = Q u that belongs to an eigenvector u. In float64.
        """
        beside = self.beside[:, :-1].double().cpu()
        matrix = torch.diag_embed(self.diagonal.double().cpu())
        matrix += torch.diag_embed(beside, 1) + torch.diag_embed(beside, -1)
        values, vectors = torch.linalg.eigh(matrix)
        residuals = vectors[:, -1].abs() * self.beside[:, -1:].double().cpu()
        return tuple(t.to(self.beside.device) for t in (values, vectors, residuals))


def tridiagonalize(
    operator: Operator, start: Tensor, steps: int, stop: Callable[[Tridiagonal], bool] | None = None
) -> Tridiagonal:
    """Run the Lanczos method with full reorthogonalisation.

    Parameters
    ----------
    operator : callable
        A symmetric matrix for each row.
    start : Tensor (N, D)
        The vectors to start from; not zero.
    steps : int
        How many products to take; at most D are.
    stop : callable, optional
        Asked after each fifth step whether that is enough.

    Raises
    ------
    ValueError
        If a product is not finite.

    References
    ----------
    Golub, Van Loan, *Matrix Computations*, 4th edition, 2013, section 10.1; reorthogonalised twice as in section 10.3.
    """
    count, dimension = start.shape
    steps = min(steps, dimension)
    basis = start.new_empty(count, steps, dimension)
    diagonal, beside = start.new_empty(count, steps), start.new_empty(count, steps)
    generator = torch.Generator().manual_seed(0)
    scale = start.new_zeros(count)
    q = start / start.norm(dim=1, keepdim=True)
    for step in range(steps):
        basis[:, step] = q
        product = operator(q)
        diagonal[:, step] = (product * q).sum(1)
        rest = _orthogonal(product, basis[:, : step + 1])
        norm = rest.norm(dim=1)
        scale = torch.maximum(scale, torch.maximum(norm, diagonal[:, step].abs()))
        exhausted = norm <= 100 * torch.finfo(start.dtype).eps * scale  # nothing but rounding is left
        beside[:, step] = norm.masked_fill(exhausted, 0)
        done = Tridiagonal(diagonal[:, : step + 1], beside[:, : step + 1], basis[:, : step + 1])
        if step + 1 == steps or step % 5 == 4:
            _check_finite(done)
            if step + 1 == steps or (stop is not None and stop(done)):
                break
        if exhausted.any():  # go on in a new direction, so that eigenvalues outside the space are found as well
            fresh = torch.randn(dimension, generator=generator, dtype=start.dtype).to(start).expand_as(rest)
            fresh = _orthogonal(fresh, basis[:, : step + 1])
            rest = torch.where(exhausted[:, None], fresh, rest)
            norm = rest.norm(dim=1)
        q = rest / norm[:, None]
    return done


def top(
    operator: Operator, start: Tensor, k: int, tolerance: float = 1e-3, steps: int = 200
) -> tuple[Tensor, Tensor, Tensor, int]:
    """Return the `k` eigenvalues of largest magnitude (N, k), their eigenvectors (N, k, D) and residuals (N, k).

    The largest magnitude comes first. Fourth, the number of products taken: enough for all residuals to be at most
    `tolerance` times the largest eigenvalue, or `steps`. A matrix smaller than `k` has zeros for the rest.
    """

    def settled(done: Tridiagonal) -> bool:
        values, _, residuals = done.ritz()
        if values.shape[1] < k:
            return False
        largest = values.abs().amax(dim=1, keepdim=True)
        return bool((residuals.gather(1, _largest(values, k)) <= tolerance * largest).all())

    done = tridiagonalize(operator, start, steps, settled)
    values, vectors, residuals = done.ritz()
    order = _largest(values, k)
    vectors = vectors.gather(2, order[:, None].expand(-1, vectors.shape[1], -1)).to(start.dtype)
    vectors = torch.einsum("nmk,nmd->nkd", vectors, done.basis)
    values, residuals = (t.gather(1, order).to(start.dtype) for t in (values, residuals))
    return values, vectors, residuals, done.basis.shape[1]


def _largest(values: Tensor, k: int) -> Tensor:
    """Return where the `k` values (N, m) of largest magnitude are (N, k), the largest first."""
    return values.abs().argsort(dim=1, descending=True)[:, :k]


def quadrature(operator: Operator, start: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Return nodes and weights (N, m) of the Gauss quadrature of the spectrum, as the start vector sees it.

    ``(weights * f(nodes)).sum(1)`` approximates s^T f(A) s for the normalised start s; it is exact for polynomials f of
    degree up to 2 m - 1. The weights sum to 1. Averaged over random signs, it is the mean of f over all eigenvalues.

    References
    ----------
    Ubaru, Chen, Saad, *Fast Estimation of tr(f(A)) via Stochastic Lanczos Quadrature*, SIAM J. Matrix Anal. Appl. 2017.
    """
    values, vectors, _ = tridiagonalize(operator, start, steps).ritz()
    return values.to(start.dtype), vectors[:, 0].square().to(start.dtype)


def _check_finite(done: Tridiagonal) -> None:
    if not (torch.isfinite(done.diagonal).all() and torch.isfinite(done.beside).all()):
        raise ValueError("operator: expected finite products, got NaN or infinity")


def _orthogonal(vectors: Tensor, basis: Tensor) -> Tensor:
    """Return vectors (N, D) without their parts in the span of the basis (N, m, D); twice is enough."""
    for _ in range(2):
        vectors = vectors - torch.einsum("nm,nmd->nd", torch.einsum("nmd,nd->nm", basis, vectors), basis)
    return vectors
