"""Public tests of ex-influence. Written by `make exercises` from book/exercises."""

import torch

from fragile_utils.course import same
from fragile_utils.course.logistic import draw_task, losses


def train(u, y, l2, weights):
    """Newton's method until nothing moves."""
    theta, n = torch.zeros(u.shape[1]).double(), len(u)
    for _ in range(30):
        p = (u @ theta).sigmoid()
        gradient = u.T @ (weights * (p - y)) / n + l2 * theta
        hessian = (
            u * (weights * p * (1 - p))[:, None]
        ).T @ u / n + l2 * torch.eye(len(theta)).double()
        theta = theta - torch.linalg.solve(hessian, gradient)
    return theta


def by_training_again(u, y, test_u, test_y, l2, step=1e-4):
    """How the test losses change with the weight of each example: the derivative by epsilon of the definition."""
    columns = []
    for i in range(len(u)):
        changed = []
        for sign in (1, -1):
            weights = torch.ones(len(u)).double()
            weights[i] += sign * step * len(u)  # the mean divides by n
            changed.append(losses(train(u, y, l2, weights), test_u, test_y))
        columns.append((changed[0] - changed[1]) / (2 * step))
    return torch.stack(columns, 1)


def compare(influence, task):
    u, y, test_u, test_y, l2 = task
    theta = train(u, y, l2, torch.ones(len(u)).double())
    expected = by_training_again(*task)

    def mistakes():
        p, q = (u @ theta).sigmoid(), (test_u @ theta).sigmoid()
        g, h = (p - y)[:, None] * u, (q - test_y)[:, None] * test_u
        curved = (u * (p * (1 - p))[:, None]).T @ u
        eye = torch.eye(len(theta)).double()
        hessian = curved / len(u) + l2 * eye
        return {
            "the sign is that of helpfulness; by the formula an example that helps has a negative influence": -expected,
            "the penalty belongs into the Hessian: lambda on its diagonal": -h
            @ torch.linalg.solve(curved / len(u), g.T),
            "the Hessian is that of the mean loss: divide the sum by n": -h
            @ torch.linalg.solve(curved + l2 * eye, g.T),
            "this multiplies by the Hessian; divide by it": -h
            @ hessian
            @ g.T,
            "this leaves the Hessian out": -h @ g.T,
            "the weights p (1 - p) of the Hessian are missing": -h
            @ torch.linalg.solve(u.T @ u / len(u) + l2 * eye, g.T),
            "this is what leaving out changes, -I / n; the influence itself is wanted": -expected
            / len(u),
            "this is (n, T); wanted are a row for each test example, (T, n)": expected.T,
        }

    found = influence(theta, u, y, test_u, test_y, l2)
    same(
        found,
        expected,
        "the influences, compared with training again",
        within=1e-5,
        mistakes=mistakes,
    )


def test_by_training_again(influence):
    """twelve examples, compared with training again"""
    compare(influence, draw_task(torch.Generator().manual_seed(1)))
