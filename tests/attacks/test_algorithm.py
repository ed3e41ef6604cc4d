"""The choice of the best iterate, against a loop over single images."""

from dataclasses import replace

import pytest
import torch

from fragile_utils.attacks import Best, Outcome


def outcome(images, dissimilarity):
    count = len(images)
    return Outcome(images, images.sum(1), torch.zeros(count).long(), torch.ones(count), dissimilarity)


@pytest.mark.parametrize("seed", range(5))
def test_the_best_is_the_first_largest_of_the_iterates_that_are_allowed(seed):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(7, 5, 3, 2, 2, generator=generator)  # the originals, and 6 iterates of 5 images
    values = torch.randint(4, (7, 5), generator=generator).double()  # with ties
    allowed = torch.rand(7, 5, generator=generator) < 0.5
    evaluated = torch.rand(7, 5, generator=generator) < 0.7
    best = Best(outcome(images[0], values[0]))
    for p in range(1, 7):
        rows = evaluated[p].nonzero().squeeze(1)
        best.update(p, rows, outcome(images[p, rows], values[p, rows]), allowed[p, rows])
    found = best.outcome(best.iteration > 0)
    for i in range(5):
        candidates = [p for p in range(1, 7) if evaluated[p, i] and allowed[p, i]]
        chosen = max(candidates, key=lambda p: values[p, i].item(), default=0)
        assert best.iteration[i] == chosen
        assert torch.equal(found.images[i], images[chosen, i])
        assert torch.equal(found.explanation[i], images[chosen, i].sum(0))
        assert found.dissimilarity[i] == values[chosen, i]


def test_the_best_leaves_the_originals_and_holds_no_graph():
    images = torch.zeros(2, 3, 2, 2)
    best = Best(outcome(images, torch.zeros(2)))
    x = torch.ones(2, 3, 2, 2, requires_grad=True)
    best.update(1, torch.arange(2), outcome(x, x.sum((1, 2, 3))), torch.tensor([True, False]))
    assert images.sum() == 0
    assert not best.found.images.requires_grad
    assert best.found.dissimilarity.tolist() == [12, -torch.inf]
    assert best.outcome(best.iteration > 0).dissimilarity.tolist() == [12, 0]


def relabelled(images):
    return replace(outcome(images, torch.ones(len(images))), labels=torch.ones(len(images)).long())


def test_the_reasons_tell_a_label_that_went_from_a_map_that_stayed():
    best = Best(outcome(torch.zeros(6, 3, 2, 2), torch.zeros(6)))
    best.update(
        1, torch.arange(3), outcome(torch.ones(3, 3, 2, 2), torch.tensor([1.0, 0.0, 0.0])), torch.ones(3).bool()
    )
    best.update(2, torch.tensor([3]), outcome(torch.ones(1, 3, 2, 2), torch.ones(1)), torch.tensor([False]))
    best.update(3, torch.tensor([3]), relabelled(torch.ones(1, 3, 2, 2)), torch.tensor([False]))
    best.update(3, torch.tensor([4]), relabelled(torch.ones(1, 3, 2, 2)), torch.tensor([False]))
    best.directed = torch.tensor([True, True, False, True, True, True])
    kept = "no iterate moved the explanation"
    lost = ["no iterate with the label had a map", "no iterate kept the label"]
    lost.append("interrupted before an iterate was measured")
    none = "no direction: to first order the explanation does not change with the image, as on a linear network"
    assert best.reasons(must_grow=True) == ["", kept, none, *lost]
    assert best.reasons(must_grow=False) == ["", "", "", *lost]
