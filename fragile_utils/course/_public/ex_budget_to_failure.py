"""Public tests of ex-budget-to-failure. Written by `make exercises` from book/exercises."""

import torch

from fragile_utils.course import same


def by_hand(budgets, kept, level=0.5):
    """Image by image, budget by budget."""
    found = []
    for row in kept.tolist():
        before, left, answer = 0.0, 1.0, float("inf")
        for budget, value in zip(budgets.tolist(), row, strict=True):
            if value <= level:
                share = (left - level) / (left - value)
                answer = before + share * (budget - before)
                break
            before, left = budget, value
        found.append(answer)
    return torch.tensor(found, dtype=torch.float64)


def inverse(found):
    """One over it, which is 0 where it is infinite: that can be compared."""
    return 1 / found if isinstance(found, torch.Tensor) else found


def compare(found, budgets, kept, what):
    padded = torch.cat([torch.zeros(1).double(), budgets])
    first = (kept <= 0.5).double().argmax(1)
    never = (kept > 0.5).all(1)
    lost = kept <= 0.5
    last = len(budgets) - 1 - lost.double().flip(1).argmax(1)

    def unless_never(values):
        return torch.where(never, float("inf"), values.double())

    mistakes = {
        "these are the budgets that were tried; draw a line from the one before": unless_never(
            budgets[first]
        ),
        "these are the budgets before the loss; draw a line to the next": unless_never(
            padded[first]
        ),
        "these are the last budgets at which half is lost; the first one counts": unless_never(
            budgets[last]
        ),
        "where half is never lost the answer is infinite, not the largest budget": torch.where(
            never, budgets[-1], by_hand(budgets, kept)
        ),
        "one number for each image is wanted; this is their median": by_hand(
            budgets, kept
        ).median(),
    }
    same(
        inverse(found),
        1 / by_hand(budgets, kept),
        what,
        mistakes={words: 1 / value for words, value in mistakes.items()},
    )


def test_four_images(budget_to_failure):
    """four images: lost at once, later, twice, and never"""
    budgets = torch.tensor([0.5, 1, 2, 8]).double()
    kept = torch.tensor(
        [
            [0.1, 0.1, 0.05, 0.0],
            [0.9, 0.8, 0.3, 0.1],
            [0.9, 0.4, 0.95, 0.2],
            [0.9, 0.9, 0.8, 0.7],
        ]
    ).double()
    compare(
        budget_to_failure(budgets, kept),
        budgets,
        kept,
        "one over the budgets of four images",
    )
