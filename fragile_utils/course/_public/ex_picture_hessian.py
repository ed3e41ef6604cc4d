"""Public tests of ex-picture-hessian. Written by `make exercises` from book/exercises."""

import torch

from fragile_utils.course import finite_differences, same


def a_network(draw, units=5):
    w, b, v = (
        torch.randn(n, generator=draw).double()
        for n in ((units, 2), (units,), (units,))
    )
    return torch.randn(4, 2, generator=draw).double(), w, b, v


def score(x, w, b, v):
    return torch.log1p(torch.exp(x @ w.T + b)) @ v


def slopes(x, w, b, v):
    """The gradients at the points, by differences of scores."""
    return torch.stack(
        [
            finite_differences(lambda y: score(y, w, b, v), p, 1e-4)
            for p in x
        ]
    )


def bends(x, w, b, v):
    """The Hessians, by differences of differences."""
    return torch.stack(
        [
            finite_differences(
                lambda y: slopes(y[None], w, b, v)[0], p, 1e-3
            )
            for p in x
        ]
    )


def compare_gradients(found, x, w, b, v):
    z = x @ w.T + b
    mistakes = {
        "this is the slope of a ReLU, a step; softplus has the slope sigma(z)": (
            z > 0
        ).double()
        * v
        @ w,
        "the weights v of the output are missing": z.sigmoid() @ w,
        "the inner derivative is missing: each unit's slope goes through its weights w": z.sigmoid()
        * v,
    }
    same(
        found,
        slopes(x, w, b, v),
        "the gradients",
        within=1e-5,
        mistakes=mistakes,
    )


def compare_hessians(found, x, w, b, v):
    z = x @ w.T + b
    s = z.sigmoid()
    mistakes = {
        "g'' is sigma(z) (1 - sigma(z)); this has sigma(z)": torch.einsum(
            "nh,hi,hj->nij", s * v, w, w
        ),
        "the weights v of the output are missing": torch.einsum(
            "nh,hi,hj->nij", s * (1 - s), w, w
        ),
        "each unit bends along its weights twice: one factor of w is missing": torch.einsum(
            "nh,hi->ni", s * (1 - s) * v, w
        ),
    }
    same(
        found,
        bends(x, w, b, v),
        "the Hessians",
        within=1e-4,
        mistakes=mistakes,
    )


def test_the_gradient(picture_gradient):
    """the gradient is that of differences of scores"""
    given = a_network(torch.Generator().manual_seed(1))
    compare_gradients(picture_gradient(*given), *given)


def test_the_hessian(picture_hessian):
    """the Hessian is that of differences of gradients"""
    given = a_network(torch.Generator().manual_seed(2))
    compare_hessians(picture_hessian(*given), *given)
