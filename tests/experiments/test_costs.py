"""What a defence costs and leaves: against loops over single images."""

from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch
from references import batch, cifar

from fragile_utils.data import Batch
from fragile_utils.experiments import price
from fragile_utils.experiments.costs import with_shuffled_weights
from fragile_utils.experiments.deletion import deletion, insertion
from fragile_utils.saliency import Gradient, Method


@dataclass(frozen=True)
class Constant(Method):
    """A map that says nothing, perfectly robust."""

    def explain(self, model, images, targets, create_graph=False):
        return torch.ones_like(images), model(images)


def naive(model, image, label, saliency_map, steps):
    """Both areas of one image, pixel by pixel."""
    order = sorted(range(saliency_map.numel()), key=lambda j: -saliency_map.flatten()[j].item())
    width, areas = image.shape[2], []
    for start, fill in ((image, None), (None, image)):
        blank = image.mean(dim=(1, 2), keepdim=True).expand_as(image)
        probabilities = []
        for step in range(steps + 1):
            changed = (start if start is not None else blank).clone()
            for j in order[: round(step * len(order) / steps)]:
                changed[:, j // width, j % width] = (blank if fill is None else fill)[:, j // width, j % width]
            probabilities.append(model(changed[None]).softmax(1)[0, label].item())
        areas.append(sum((a + b) / 2 for a, b in pairwise(probabilities)) / steps)
    return areas


def test_deletion_and_insertion_are_those_of_a_loop():
    model, (images, _) = cifar(), batch(3)
    labels = model(images).argmax(1)
    maps = Gradient()(model, images, labels)
    got = torch.stack([area(model, images, labels, maps, steps=7) for area in (deletion, insertion)], dim=1)
    expected = [naive(model, *each, steps=7) for each in zip(images, labels.tolist(), maps, strict=True)]
    torch.testing.assert_close(got, torch.tensor(expected, dtype=torch.float64))


class Corner(torch.nn.Module):
    """A network that looks at four pixels alone."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([20.0, -20.0, 0.0]))

    def forward(self, images):
        return images[:, :, :2, :2].mean((1, 2, 3))[:, None] * self.weight


def test_a_map_of_what_the_network_looks_at_is_deleted_and_inserted_best():
    images = torch.zeros(1, 3, 8, 8)
    images[:, :, :2, :2] = 1
    true, labels = images[:, 0] / 4, torch.tensor([0])
    corner = Corner().eval()
    deleted, inserted = (area(corner, images, labels, true, steps=16) for area in (deletion, insertion))
    worst = deletion(corner, images, labels, 1 - images[:, 0], steps=16)
    assert deleted < 0.85 < worst
    assert inserted > 0.95


def test_shuffled_weights_are_the_same_numbers_elsewhere():
    model = cifar()
    shuffled = with_shuffled_weights(model, seed=3)
    for (name, old), new in zip(model.named_parameters(), shuffled.parameters(), strict=True):
        assert torch.equal(old.flatten().sort().values, new.flatten().sort().values), name
        assert old.numel() == 1 or not torch.equal(old, new)
    again = with_shuffled_weights(model, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(shuffled.parameters(), again.parameters(), strict=True))


def test_a_constant_map_costs_little_and_says_nothing():
    model, (images, _) = cifar(), batch(4)
    labels = model(images).argmax(1)
    labels[0] = (labels[0] + 1) % 5
    constant = price(model, Constant(), Batch(images, labels))
    gradient = price(model, Gradient(), Batch(images, labels))
    assert constant.accuracy == gradient.accuracy == 0.75
    assert constant.randomised == 1 > gradient.randomised
    assert gradient.seconds > 0
    assert price(model, Gradient(), Batch(images, labels))._replace(seconds=0) == gradient._replace(seconds=0)


def test_a_network_that_gets_nothing_right_has_no_price():
    model, (images, _) = cifar(), batch(2)
    with pytest.raises(ValueError, match="gets some right, got none"):
        price(model, Gradient(), Batch(images, (model(images).argmax(1) + 1) % 5))
