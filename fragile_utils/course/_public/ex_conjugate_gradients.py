"""Public tests of ex-conjugate-gradients. Written by `make exercises` from book/exercises."""

import torch

from fragile_utils.course import same, true

ADVICE = (
    "conjugate directions need one for each. Is the new direction the residual plus a part of the last direction, is "
    "there one product in each step, and does it stop when the residual is short?"
)


class Counted:
    """Products with a matrix, counted; far more of them than any right answer needs are refused."""

    def __init__(self, matrix):
        self.matrix, self.count = matrix, 0

    def __call__(self, v):
        self.count += 1
        if self.count > 20 * len(self.matrix):
            raise AssertionError(
                f"{self.count} products for {len(self.matrix)} unknowns: {ADVICE}"
            )
        return self.matrix @ v


def a_problem(draw, size=8):
    q, _ = torch.linalg.qr(torch.randn(size, size, generator=draw).double())
    eigenvalues = torch.logspace(0, 2, size).double()
    return q * eigenvalues @ q.T, torch.randn(size, generator=draw).double()


def compare(conjugate_gradients, matrix, b, tolerance=1e-8):
    product = Counted(matrix)
    found = conjugate_gradients(product, b.clone(), tolerance)
    true(found is not None, "got None; is there a return?")
    expected = torch.linalg.solve(matrix, b)
    mistakes = {
        "only the sign is wrong: does the residual grow where it should shrink?": -expected
    }
    same(found, expected, "the solution", within=1e-5, mistakes=mistakes)
    steps = (
        len(matrix) + 3
    )  # rounding costs a few more than the theory's one for each dimension
    true(
        product.count <= steps,
        f"{product.count} products for {len(matrix)} unknowns: {ADVICE}",
    )


def test_eight_unknowns(conjugate_gradients):
    """eight unknowns, in eight steps"""
    compare(
        conjugate_gradients, *a_problem(torch.Generator().manual_seed(1))
    )


def test_it_stops(conjugate_gradients):
    """a problem that one step solves is solved in one step"""
    b = torch.randn(5, generator=torch.Generator().manual_seed(2)).double()
    product = Counted(3 * torch.eye(5).double())
    found = conjugate_gradients(product, b, 1e-8)
    true(found is not None, "got None; is there a return?")
    true(
        not found.isnan().any(),
        "NaN: it goes on when the residual is zero already",
    )
    same(found, b / 3, "the solution of a problem with one eigenvalue")
    true(
        product.count <= 2,
        f"{product.count} products where one suffices: stop when the residual is short",
    )
