"""Public tests of ex-power-iteration. Written by `make exercises` from book/exercises."""

import torch

from fragile_utils.course import same, true


def a_matrix(draw, largest, size=6):
    """A symmetric matrix with a largest eigenvalue that stands out; the others are at most half of it."""
    q, _ = torch.linalg.qr(torch.randn(size, size, generator=draw).double())
    others = torch.linspace(-0.5, 0.5, size - 1).double() * abs(largest)
    return q * torch.cat(
        [torch.tensor([largest]).double(), others]
    ) @ q.T, q[:, 0]


def compare(power_iteration, matrix, largest, direction, start, steps=60):
    found = power_iteration(lambda v: matrix @ v, start, steps)
    true(found is not None, "got None; is there a return?")
    true(
        len(found) == 2,
        f"expected an eigenvalue and a direction, got {len(found)} values",
    )
    value, vector = found
    value = torch.as_tensor(value)
    true(
        value.isfinite(),
        "the numbers grow without end: divide by the length in each step",
    )
    mistakes = {
        "this is the length |H v|, which has no sign; take v^T H v": abs(
            largest
        ),
        "this is the square of the eigenvalue": largest**2,
        "this is v^T H v of a vector that has not the length 1": (
            start @ matrix @ start
        ).item(),
    }
    same(value, largest, "the eigenvalue", mistakes=mistakes)
    same(vector.norm(), 1.0, "the length of the direction")
    true(
        (vector @ direction).abs() > 1 - 1e-6,
        "the direction is not that of the largest eigenvalue",
    )


def test_a_positive_eigenvalue(power_iteration):
    """a matrix whose largest eigenvalue is positive"""
    draw = torch.Generator().manual_seed(1)
    matrix, direction = a_matrix(draw, 7.0)
    compare(
        power_iteration,
        matrix,
        7.0,
        direction,
        torch.randn(6, generator=draw).double(),
    )


def test_a_negative_eigenvalue(power_iteration):
    """a matrix whose largest eigenvalue is negative"""
    draw = torch.Generator().manual_seed(2)
    matrix, direction = a_matrix(draw, -5.0)
    compare(
        power_iteration,
        matrix,
        -5.0,
        direction,
        torch.randn(6, generator=draw).double(),
    )


def test_large_numbers(power_iteration):
    """a large eigenvalue and many steps"""
    draw = torch.Generator().manual_seed(3)
    matrix, direction = a_matrix(draw, -1e9)
    compare(
        power_iteration,
        matrix,
        -1e9,
        direction,
        torch.randn(6, generator=draw).double(),
        steps=200,
    )
