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

from typing import Literal

import torch
from torch import Tensor

from fragile_utils import metrics
from fragile_utils._base import checks
from fragile_utils.influence.head import Head, check_examples
from fragile_utils.influence.solvers import ConjugateGradients, Exact, TrainingHessian

Side = Literal["helpful", "harmful"]


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

    Raises
    ------
    ValueError
        If an argument is not as described, or the head was trained on other examples, or with weights: the gradient of
        what training minimises is then longer than a thousandth of the examples' mean gradient (1e-8 for each
        parameter, to which training goes, is nothing).

    References
    ----------
    Koh, Liang, *Understanding Black-box Predictions via Influence Functions*, ICML 2017, arXiv:1703.04730.
    """

    def __init__(
        self, head: Head, features: Tensor, labels: Tensor, solver: Exact | ConjugateGradients | None = None
    ) -> None:
        checks.instance(head, Head, "head", "fit(features, labels)")
        check_examples(features, labels, head)
        solver = Exact() if solver is None else solver
        checks.instance(solver, Exact | ConjugateGradients, "solver", "Exact()")
        self.head, self.solver = head, solver
        self.residuals, self.inputs = head.gradients(features, labels)
        probabilities = head(features).softmax(1)
        self.hessian = TrainingHessian(self.inputs, probabilities, head.basis, head.l2 + solver.damping)
        self.divide = solver.solver(self.hessian)
        self._check_trained()

    def __call__(self, features: Tensor, labels: Tensor) -> Tensor:
        check_examples(features, labels, self.head)
        residuals, inputs = self.head.gradients(features, labels)
        solved = self.divide(residuals[:, :, None] * inputs[:, None, :])  # (T, K - 1, D + 1)
        return -torch.einsum("tkn,nk->tn", solved @ self.inputs.T, self.residuals)

    def pull(self, chosen: Tensor) -> Tensor:
        """Return H^-1 times the sum of the loss gradients of the `chosen` training examples (T, m): (T, K - 1, D + 1).

        It does not depend on the test images, so that an attack on them computes it once.
        """
        n = len(self.inputs)
        expected = f"chosen: expected indices (T, m) of training examples, from 0 to {n - 1}"
        if not isinstance(chosen, Tensor) or chosen.ndim != 2 or chosen.dtype != torch.int64:
            raise ValueError(f"{expected}, as a tensor of int64, got {checks.described(chosen)}")
        if ((chosen < 0) | (chosen >= n)).any():
            raise ValueError(f"{expected}, got some from {chosen.min()} to {chosen.max()}")
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

    def _check_trained(self) -> None:
        """Refuse a head that does not minimise its loss on these examples, of which influences are the derivative."""
        gradient = self.residuals.T @ self.inputs / len(self.inputs) + self.head.l2 * self.head.theta
        size = (self.residuals.norm(dim=1) * self.inputs.norm(dim=1)).mean()  # of an example's own
        if not gradient.norm() <= 1e-3 * size + 1e-8 * gradient.numel() ** 0.5:
            raise ValueError(
                "head: expected one trained on these examples, each with the weight 1, got one whose gradient on them "
                f"is {gradient.norm() / size:.1%} of the mean of theirs; give the examples that it was trained on, or "
                "head.refit(features, labels)"
            )


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
    first, second = most(before, n, side), most(after, n, side)
    checks.same_shape(before, after)
    return (first[:, :, None] == second[:, None, :]).any(2).double().mean(1)


def _check_scores(scores: Tensor, name: str) -> None:
    expected = f"{name}: expected finite influences (T, N)"
    if not isinstance(scores, Tensor) or scores.ndim != 2 or scores.numel() == 0:
        raise ValueError(f"{expected}, got {checks.described(scores)}")
    if not torch.isfinite(scores).all():
        raise ValueError(f"{expected}, got values that are not finite (NaN or infinity)")
