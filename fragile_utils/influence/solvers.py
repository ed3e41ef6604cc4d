"""The Hessian of multinomial logistic regression, and two ways to divide by it: written down, or by products alone."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fragile_utils._base import checks


@dataclass(frozen=True, eq=False)
class TrainingHessian:
    """The Hessian of the mean training loss plus (ridge / 2) |theta|^2, in the coordinates of `influence.Head`.

    Attributes
    ----------
    inputs : Tensor (n, D + 1)
    probabilities : Tensor (n, K)
        Of the classes, on the training examples.
    basis : Tensor (K, K - 1)
    ridge : float
        l2 and damping together.
    weights : Tensor (n,), optional
        Of the examples; all one by default.
    """

    inputs: Tensor
    probabilities: Tensor
    basis: Tensor
    ridge: float
    weights: Tensor | None = None

    @property
    def size(self) -> int:
        """The number of parameters, (K - 1) (D + 1)."""
        return self.basis.shape[1] * self.inputs.shape[1]

    def matrix(self) -> Tensor:
        """Return it written out, (P, P) with P = (K - 1) (D + 1): bias and weights of each row of theta in turn."""
        n, width = self.inputs.shape
        rows = self.basis.shape[1]
        curvature = self._of_logits(self.basis.expand(n, -1, -1).transpose(1, 2))  # (n, K - 1, K - 1)
        matrix = self.inputs.new_empty(rows, width, rows, width)
        for k in range(rows):
            for j in range(k + 1):
                block = self.inputs.T @ (curvature[:, k, j, None] * self.inputs) / n
                matrix[k, :, j], matrix[j, :, k] = block, block.T
        return matrix.view(self.size, self.size) + self.ridge * torch.eye(self.size).to(matrix)

    def product(self, vectors: Tensor) -> Tensor:
        """Return its product with each of B vectors (B, K - 1, D + 1), without writing it out."""
        logits = vectors @ self.inputs.T  # (B, K - 1, n)
        curved = self._of_logits((self.basis @ logits).permute(2, 0, 1))  # (n, B, K - 1)
        return torch.einsum("nbk,nd->bkd", curved, self.inputs) / len(self.inputs) + self.ridge * vectors

    def _of_logits(self, logits: Tensor) -> Tensor:
        """Apply each example's Hessian with respect to its logits, diag(p) - p p^T, to (n, B, K) logits."""
        weighted = logits * self.probabilities[:, None, :]
        curved = (weighted - self.probabilities[:, None, :] * weighted.sum(2, keepdim=True)) @ self.basis
        return curved if self.weights is None else self.weights[:, None, None] * curved


Solve = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Exact:
    """Write the Hessian down and factorise it (Cholesky): P^2 numbers for P = (K - 1) (D + 1) parameters.

    Parameters
    ----------
    damping : float
        Added to the Hessian's diagonal, beside the l2 of the head.
    """

    damping: float = 0.0

    def __post_init__(self) -> None:
        checks.non_negative(self.damping, "damping")

    def solver(self, hessian: TrainingHessian) -> Solve:
        """Return the function that divides vectors (B, K - 1, D + 1) by the Hessian.

        Raises
        ------
        ValueError
            If the Hessian is singular up to rounding, or too large.
        """
        if hessian.size > 30_000:
            raise ValueError(
                f"the Hessian of {hessian.size:,} parameters takes {8e-9 * hessian.size**2:.0f} GB: "
                "use ConjugateGradients()"
            )
        factor, failed = torch.linalg.cholesky_ex(hessian.matrix())
        pivots = factor.diagonal().square()
        if failed or pivots.min() <= 10 * hessian.size * torch.finfo(factor.dtype).eps * pivots.max():
            raise ValueError(
                "the Hessian is singular: features that depend on each other, or more of them than examples, leave "
                "directions in which the loss is flat; give the head an l2 > 0, or damping > 0"
            )
        return lambda vectors: torch.cholesky_solve(vectors.flatten(1).T, factor).T.reshape(vectors.shape)


@dataclass(frozen=True)
class ConjugateGradients:
    """Solve by conjugate gradients, all right-hand sides at once: needs only products with the Hessian.

    Parameters
    ----------
    damping : float
        As in `Exact`.
    tolerance : float
        Of the residual, relative to the right-hand side; below 1, at which zero would be a solution.
    steps : int
        At most.
    """

    damping: float = 0.0
    tolerance: float = 1e-10
    steps: int = 5000

    def __post_init__(self) -> None:
        checks.non_negative(self.damping, "damping")
        checks.positive(self.tolerance, "tolerance", below=1)
        checks.count(self.steps, "steps")

    def solver(self, hessian: TrainingHessian) -> Solve:
        """Return the function that divides vectors (B, K - 1, D + 1) by the Hessian."""
        return lambda vectors: self._solve(hessian, vectors)

    def _solve(self, hessian: TrainingHessian, vectors: Tensor) -> Tensor:
        solution = torch.zeros_like(vectors)
        residual = direction = vectors
        squared = _inner(residual, residual)
        goal = self.tolerance**2 * squared
        for _ in range(self.steps):
            open_ = squared > goal
            if not open_.any():
                return solution
            image = hessian.product(direction)
            step = torch.where(open_, squared / _inner(direction, image), 0.0)
            solution = solution + step * direction
            residual = residual - step * image
            before, squared = squared, _inner(residual, residual)
            direction = residual + torch.where(open_, squared / before, 0.0) * direction
        worst = (squared / goal).max().sqrt().item() * self.tolerance
        raise ValueError(
            f"conjugate gradients did not converge in {self.steps} steps (relative residual {worst:.1g}): the Hessian "
            "is singular or nearly so; give damping > 0, or more steps"
        )


def _inner(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(dim=(1, 2), keepdim=True)
