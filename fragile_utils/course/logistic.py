"""Logistic regression on a few examples: what the exercises on influence train, test and leave out."""

import torch
from torch import Tensor

L2 = 0.1  # the weight of the penalty: enough for a unique minimum, also without an example


def losses(theta: Tensor, u: Tensor, y: Tensor) -> Tensor:
    """Return the cross-entropy of each example, (n,), without the penalty.

    Parameters
    ----------
    theta : Tensor
        (D,), the parameters.
    u, y : Tensor
        (n, D) and (n,): examples, and their labels of 0 or 1.
    """
    return torch.nn.functional.softplus(u @ theta) - y * (u @ theta)


def draw_task(
    generator: torch.Generator, examples: int = 12, size: int = 3, tests: int = 4
) -> tuple[Tensor, Tensor, Tensor, Tensor, float]:
    """Return training examples and labels, test examples and labels, all float64, and the weight of the penalty.

    Labels follow a direction that is drawn, with noise, so that no plane parts the two classes.

    Parameters
    ----------
    generator : torch.Generator
        Draws the task.
    examples, size, tests : int
        How many training examples there are, of how many numbers each, and how many test examples.
    """
    u, test_u = (torch.randn(count, size, generator=generator).double() for count in (examples, tests))
    truth = torch.randn(size, generator=generator).double()
    y, test_y = ((v @ truth + torch.randn(len(v), generator=generator) > 0).double() for v in (u, test_u))
    return u, y, test_u, test_y, L2
