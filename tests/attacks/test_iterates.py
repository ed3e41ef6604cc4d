"""What attacks of every kind share, against loops over single images."""

import pytest
import torch

from fragile_utils.attacks import iterates


def test_projection_is_the_nearest_point_pixel_by_pixel():
    generator = torch.Generator().manual_seed(0)
    originals = torch.rand(2, 3, 4, 4, generator=generator)
    x = originals + torch.randn(2, 3, 4, 4, generator=generator)
    found = iterates.project(x, originals, 0.1)
    for got, value, original in zip(found.flatten(), x.flatten(), originals.flatten(), strict=True):
        low, high = max(original.item() - 0.1, 0), min(original.item() + 0.1, 1)
        assert got.item() == pytest.approx(min(max(value.item(), low), high), abs=1e-6)
    assert (found - originals).abs().max() <= 0.1


def test_a_budget_below_the_resolution_of_float32_is_kept_too():
    originals = 0.1 * torch.rand(100, generator=torch.Generator().manual_seed(0))
    for direction in (-1e-8, 1e-8):
        assert (iterates.project(originals + direction, originals, 1e-8) - originals).abs().max() <= 1e-8


@pytest.mark.parametrize("seed", range(5))
def test_the_best_is_the_first_largest_of_the_iterates_that_are_allowed(seed):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(7, 5, 3, 2, 2, generator=generator)  # the originals, and 6 iterates of 5 images
    values = torch.randint(4, (7, 5), generator=generator).double()  # with ties
    allowed = torch.rand(7, 5, generator=generator) < 0.5
    looked_at = torch.rand(7, 5, generator=generator) < 0.7
    best = iterates.Best({"images": images[0], "dissimilarity": values[0]})
    for p in range(1, 7):
        rows = looked_at[p].nonzero().squeeze(1)
        new = {"images": images[p, rows], "dissimilarity": values[p, rows]}
        best.update(p, rows, new, allowed[p, rows])
    best.fall_back(best.iteration > 0)
    for i in range(5):
        candidates = [p for p in range(1, 7) if looked_at[p, i] and allowed[p, i]]
        chosen = max(candidates, key=lambda p: values[p, i].item(), default=0)
        assert best.iteration[i] == chosen
        assert torch.equal(best.found["images"][i], images[chosen, i])
        assert best.found["dissimilarity"][i] == values[chosen, i]


def test_the_best_leaves_the_originals_and_holds_no_graph():
    images = torch.zeros(2, 3, 2, 2)
    best = iterates.Best({"images": images, "dissimilarity": torch.zeros(2)})
    x = torch.ones(2, 3, 2, 2, requires_grad=True)
    best.update(1, torch.arange(2), {"images": x, "dissimilarity": x.sum((1, 2, 3))}, torch.tensor([True, False]))
    assert images.sum() == 0
    assert not best.found["images"].requires_grad
    assert best.found["dissimilarity"].tolist() == [12, -torch.inf]
    best.fall_back(best.iteration > 0)
    assert best.found["dissimilarity"].tolist() == [12, 0]
