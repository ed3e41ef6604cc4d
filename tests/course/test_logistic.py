"""The task of the exercises on influence: its losses are those of a reference, and it is never parted by a plane."""

import torch
from sklearn.linear_model import LogisticRegression

from fragile_utils.course import logistic


def drawn(seed, **options):
    return logistic.draw_task(torch.Generator().manual_seed(seed), **options)


def test_the_losses_are_cross_entropies():
    u, y, _, _, _ = drawn(0)
    theta = torch.tensor([1.0, -2.0, 0.5]).double()
    expected = torch.nn.functional.binary_cross_entropy((u @ theta).sigmoid(), y, reduction="none")
    assert torch.allclose(logistic.losses(theta, u, y), expected, rtol=1e-12, atol=0)


def test_the_same_generator_draws_the_same_task_of_the_sizes_that_are_asked_for():
    first, again, other = drawn(1), drawn(1), drawn(2)
    assert all(torch.equal(a, b) for a, b in zip(first[:4], again[:4], strict=True))
    assert not torch.equal(first[0], other[0])
    u, y, test_u, test_y, _ = drawn(1, examples=7, size=2, tests=5)
    assert [tuple(t.shape) for t in (u, y, test_u, test_y)] == [(7, 2), (7,), (5, 2), (5,)]
    assert {t.dtype for t in (u, y, test_u, test_y)} == {torch.float64}


def test_labels_follow_a_direction_with_noise():
    """Neither chance, which nothing could learn, nor a task without errors, in which a few examples decide."""
    u, y, _, _, _ = drawn(3, examples=2000)
    right = LogisticRegression().fit(u, y).score(u, y)
    assert 0.65 < right < 0.95
