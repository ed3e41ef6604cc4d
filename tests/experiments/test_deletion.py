"""Deletion and insertion: beside the area computed image by image, and what they refuse."""

import itertools

import pytest
import torch
from torch import nn

from fragile_utils.experiments import deletion


class Corner(nn.Module):
    """A network that looks at the upper left corner alone."""

    def forward(self, images):
        score = images[:, :, :4, :4].mean((1, 2, 3))
        return torch.stack([8 * score - 4, 4 - 8 * score], 1)


def corner(lit):
    maps = torch.full((2, 8, 8), 1e-6)
    maps[:, :4, :4] = 1.0 if lit else 0.0
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.2
    images[:, :, :4, :4] += 0.8
    return Corner().eval(), images, torch.zeros(2, dtype=torch.int64), maps


def test_deletion_and_insertion_tell_a_map_that_says_something_from_one_that_does_not():
    right, wrong = corner(True), corner(False)
    assert (deletion.deletion(*right) < deletion.deletion(*wrong) - 0.1).all()
    assert (deletion.insertion(*right) > deletion.insertion(*wrong) + 0.1).all()


def test_deletion_is_the_area_under_the_confidence():
    model, images, labels, maps = corner(True)
    maps = maps + 1e-9 * torch.arange(64.0).view(8, 8)  # no ties
    expected = torch.zeros(2)
    for i in range(2):  # naively, image by image
        order, values, shown = maps[i].flatten().argsort(descending=True), [], images[i].clone()
        for step in range(5):
            gone = order[: round(64 * step / 4)]
            shown = images[i].clone().flatten(1)
            shown[:, gone] = images[i].mean((1, 2))[:, None]
            values.append(model(shown.view(1, 3, 8, 8)).softmax(1)[0, 0])
        expected[i] = sum((a + b) / 2 for a, b in itertools.pairwise(values)) / 4
    torch.testing.assert_close(deletion.deletion(model, images, labels, maps, steps=4), expected)


@pytest.mark.parametrize("measure", [deletion.deletion, deletion.insertion])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"maps": torch.ones(1, 8, 8)}, r"maps: expected one for each image, \(2, 8, 8\), got \(1, 8, 8\)"),
        ({"maps": torch.ones(2, 4, 8)}, r"maps: expected one for each image, \(2, 8, 8\), got \(2, 4, 8\)"),
        ({"maps": -torch.ones(2, 8, 8)}, "maps: expected finite, non-negative"),
        ({"images": torch.rand(1, 3, 8, 8)}, r"labels: expected an integer tensor \(1,\), got shape \(2,\)"),
        ({"images": 255 * torch.ones(2, 3, 8, 8)}, "images: .*; divide by 255"),
        ({"labels": torch.tensor([0])}, r"labels: expected an integer tensor \(2,\), got shape \(1,\)"),
        ({"labels": torch.tensor([0, 2])}, "labels: expected classes from 0 to 1, got 2"),
        ({"labels": torch.tensor([0, -1])}, "labels: expected classes at least 0, got -1"),
        ({"steps": 0}, "steps: expected a whole number at least 1, got 0"),
        ({"steps": 2.5}, "steps: expected a whole number at least 1, got 2.5"),
    ],
)
def test_deletion_refuses_what_it_would_have_to_guess(measure, changes, message):
    given = dict(zip(("model", "images", "labels", "maps"), corner(True), strict=True))
    with pytest.raises(ValueError, match=message):
        measure(**given | changes)
