"""Explanations by example: the influence of each training example on the loss at a test example.

The model is a frozen feature extractor with a trained last layer, its *head*: multinomial logistic regression on
standardised features, as in the paper (Inception v3, all but the last layer frozen). Then the training loss is convex,
the Hessian is small enough to be written down, and everything here is exact up to rounding.

**Sign.** With z = (x, y), the loss L and the trained parameters theta,

    I(z_i, z_t) = - grad L(z_t)^T H^-1 grad L(z_i)

(Ghorbani, Abid, Zou, AAAI 2019; Koh and Liang, ICML 2017, equation 2): the rate at which the loss at z_t changes when
z_i gets more weight in training. Leaving z_i out of n changes that loss by about -I / n. So a *helpful* example has a
negative influence, a *harmful* one a positive influence. The examples that explain a prediction are the most helpful
ones. The authors' published code ranks so too: it leaves out the minus sign, and puts the largest values first.

H is the Hessian of what training minimises, the mean loss plus (l2 / 2) |theta|^2, so it includes l2; `damping` comes
on top of it. The gradients are those of the loss alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fragile_utils import checks, metrics
from fragile_utils.last_layer import Head, check_examples

Side = Literal["helpful", "harmful"]


# --- The Hessian, and two ways to divide by it -----------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Hessian:
    """The Hessian of the mean training loss plus (ridge / 2) |theta|^2, in the coordinates of `Head.theta`.

    Attributes
    ----------
    inputs : Tensor (n, D + 1)
    probabilities : Tensor (n, K)
        Of the trained head, on the training examples.
    basis : Tensor (K, K - 1)
    ridge : float
        l2 and damping together.
    """

    inputs: Tensor
    probabilities: Tensor
    basis: Tensor
    ridge: float

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
        return (weighted - self.probabilities[:, None, :] * weighted.sum(2, keepdim=True)) @ self.basis


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

    def solver(self, hessian: Hessian) -> Solve:
        """Return the function that divides vectors (B, K - 1, D + 1) by the Hessian.

        Raises
        ------
        ValueError
            If the Hessian is singular up to rounding, or too large.
        """
        if hessian.size > 30_000:
            raise ValueError(
                f"the Hessian of {hessian.size:,} parameters takes {8e-9 * hessian.size**2:.0f} GB: "
                "use influence.ConjugateGradients()"
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
        Of the residual, relative to the right-hand side.
    steps : int
        At most.
    """

    damping: float = 0.0
    tolerance: float = 1e-10
    steps: int = 5000

    def __post_init__(self) -> None:
        checks.non_negative(self.damping, "damping")
        checks.positive(self.tolerance, "tolerance")
        checks.count(self.steps, "steps")

    def solver(self, hessian: Hessian) -> Solve:
        """Return the function that divides vectors (B, K - 1, D + 1) by the Hessian."""
        return lambda vectors: self._solve(hessian, vectors)

    def _solve(self, hessian: Hessian, vectors: Tensor) -> Tensor:
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


# --- Influence -------------------------------------------------------------------------------------------------------


class Influence:
    """The influence of n training examples on the loss at any test example, I(z_i, z_t) of the module's head.

    Called with test features (T, D) and labels (T,), it returns the influences (T, n), in float64.

    Parameters
    ----------
    head : Head
        Trained on these examples.
    features : Tensor (n, D)
        Of the training examples.
    labels : Tensor (n,)
        Their classes.
    solver : Exact or ConjugateGradients
        How to divide by the Hessian.

    References
    ----------
    Koh, Liang, *Understanding Black-box Predictions via Influence Functions*, ICML 2017, arXiv:1703.04730.
    """

    def __init__(
        self, head: Head, features: Tensor, labels: Tensor, solver: Exact | ConjugateGradients | None = None
    ) -> None:
        check_examples(features, labels, head)
        solver = Exact() if solver is None else solver
        self.head, self.solver = head, solver
        self.residuals, self.inputs = head.gradients(features, labels)
        probabilities = head(features).softmax(1)
        self.hessian = Hessian(self.inputs, probabilities, head.basis, head.l2 + solver.damping)
        self.divide = solver.solver(self.hessian)

    def __call__(self, features: Tensor, labels: Tensor) -> Tensor:
        check_examples(features, labels, self.head)
        residuals, inputs = self.head.gradients(features, labels)
        solved = self.divide(residuals[:, :, None] * inputs[:, None, :])  # (T, K - 1, D + 1)
        return -torch.einsum("tkn,nk->tn", solved @ self.inputs.T, self.residuals)

    def pull(self, chosen: Tensor) -> Tensor:
        """Return H^-1 times the sum of the loss gradients of the `chosen` training examples (T, m): (T, K - 1, D + 1).

        It does not depend on the test images, so that an attack on them computes it once.
        """
        return self.divide(torch.einsum("tmk,tmd->tkd", self.residuals[chosen], self.inputs[chosen]))

    def total(self, features: Tensor, labels: Tensor, pull: Tensor, scale_free: bool = False) -> Tensor:
        """Return the summed influence (T,) of the examples behind `pull` on test examples.

        Differentiable with respect to the features (T, D), and through them the images: a first derivative, which a
        network of ReLUs has almost everywhere, so that no surrogate is needed.

        With `scale_free`, divided by the length of the test example's residual, softmax minus label: a factor that all
        training examples share, and that says only how confident the prediction is.
        """
        residuals, inputs = self.head.gradients(features, labels)
        total = -torch.einsum("tk,tkd,td->t", residuals, pull, inputs)
        return total / residuals.norm(dim=1).clamp_min(1e-300) if scale_free else total


# --- Rankings --------------------------------------------------------------------------------------------------------


def most(scores: Tensor, n: int, side: Side = "helpful") -> Tensor:
    """Return the indices (T, n) of the `n` most influential training examples for each row of influences (T, N).

    Parameters
    ----------
    scores : Tensor (T, N)
    n : int
    side : {"helpful", "harmful"}
        The most negative influences first, or the most positive. Between equal ones, the lower index comes first.
    """
    _check_scores(scores, "scores")
    checks.count(n, "n", at_most=scores.shape[1])
    if side not in ("helpful", "harmful"):
        raise ValueError(f"side: expected 'helpful' or 'harmful', got {side!r}")
    return scores.argsort(dim=1, descending=side == "harmful", stable=True)[:, :n]


def rank_correlation(before: Tensor, after: Tensor) -> Tensor:
    """Return Spearman's rank correlation (T,) of all influences (T, N) before and after; NaN where all are equal."""
    _check_scores(before, "before")
    _check_scores(after, "after")
    checks.same_shape(before, after)
    return metrics.spearman(before, after)


def top_overlap(before: Tensor, after: Tensor, n: int = 5, side: Side = "helpful") -> Tensor:
    """Return the share (T,) of the `n` most influential examples of `before` that are among those of `after`."""
    checks.same_shape(before, after)
    first, second = most(before, n, side), most(after, n, side)
    return (first[:, :, None] == second[:, None, :]).any(2).double().mean(1)


def _check_scores(scores: Tensor, name: str) -> None:
    expected = f"{name}: expected finite influences (T, N)"
    if not isinstance(scores, Tensor) or scores.ndim != 2 or scores.numel() == 0:
        got = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise ValueError(f"{expected}, got {got}")
    if not torch.isfinite(scores).all():
        raise ValueError(f"{expected}, got values that are not finite (NaN or infinity)")
