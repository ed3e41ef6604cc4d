"""Public tests of ex-leave-one-out. Written by `make exercises` from book/exercises."""

import numpy as np
import torch
from scipy.optimize import minimize

from fragile_utils.course import same
from fragile_utils.course.logistic import draw_task, losses


def train(u, y, l2, weights, count):
    """By a general minimiser, which knows nothing of Newton's method."""

    def objective(theta):
        theta = torch.tensor(theta, requires_grad=True)
        value = (
            weights * losses(theta, u, y)
        ).sum() / count + l2 / 2 * theta @ theta
        value.backward()
        return value.item(), theta.grad.numpy()

    start = np.zeros(u.shape[1])
    options = {"gtol": 1e-12, "maxiter": 1000}
    found = minimize(
        objective, start, jac=True, method="BFGS", options=options
    )
    return torch.tensor(found.x)


def by_minimising(u, y, test_u, test_y, l2, divide=None):
    n = len(u)
    everything = train(u, y, l2, torch.ones(n).double(), n)
    columns = []
    for i in range(n):
        weights = torch.ones(n).double()
        weights[i] = 0
        without = train(u, y, l2, weights, divide or n)
        columns.append(
            losses(without, test_u, test_y)
            - losses(everything, test_u, test_y)
        )
    return torch.stack(columns, 1)


def one_step(u, y, test_u, test_y, l2):
    """A single Newton step away from all examples."""
    n, eye = len(u), torch.eye(u.shape[1]).double()
    theta = train(u, y, l2, torch.ones(n).double(), n)
    columns = []
    for i in range(n):
        weights = torch.ones(n).double()
        weights[i] = 0
        p = (u @ theta).sigmoid()
        gradient = u.T @ (weights * (p - y)) / n + l2 * theta
        curved = (u * (weights * p * (1 - p))[:, None]).T @ u / n
        moved = theta - torch.linalg.solve(curved + l2 * eye, gradient)
        columns.append(
            losses(moved, test_u, test_y) - losses(theta, test_u, test_y)
        )
    return torch.stack(columns, 1)


def compare(leave_one_out, task):
    expected = by_minimising(*task)

    def mistakes():
        n = len(task[0])
        return {
            "the sign is turned: without the example, minus with all": -expected,
            "this divides by n - 1 when one is left out; the sum is still divided by n": by_minimising(
                *task, divide=n - 1
            ),
            "one Newton step is close, but not the end: go on until nothing moves": one_step(
                *task
            ),
            "this is (n, T); wanted are a row for each test example, (T, n)": expected.T,
            "the penalty is missing in the training": by_minimising(
                *task[:4], 1e-9
            ),
        }

    same(
        leave_one_out(*task),
        expected,
        "the changes of the test losses",
        within=1e-6,
        mistakes=mistakes,
    )


def test_ten_examples(leave_one_out):
    """ten examples, each left out once"""
    compare(
        leave_one_out,
        draw_task(torch.Generator().manual_seed(1), examples=10),
    )
