"""Noise of an attack's size, against a search by bisection for each image alone."""

import pytest
import torch
from networks import Tiny
from small_attacks import GRADIENT, attack

from fragile_utils import attacks, metrics
from fragile_utils._base.seeds import random_signs


def by_bisection(original, signs, size):
    """The image at this distance, as a root mean square, found one at a time."""
    low, high = 0.0, 4 * size
    for _ in range(60):
        middle = (low + high) / 2
        image = (original + middle * signs).clamp(0, 1)
        low, high = (middle, high) if (image - original).square().mean().sqrt() < size else (low, middle)
    return image


@pytest.mark.parametrize("name", ["topk", "mass-center", "targeted"])
def test_each_image_gets_signs_of_the_rms_of_its_attack(name, tiny, tiny_batch):
    images, labels = tiny_batch[0].double().clone(), tiny_batch[1]
    images[1], images[2] = images[1].round(), images[2].clamp(0.1, 0.9)  # all at black and white; none
    tiny = tiny.double()
    labels = tiny(images).argmax(1)
    labels[3] = (labels[3] + 1) % 5  # not attacked
    result = attack(name, tiny, images, labels, seed=7)
    noise = attacks.matched_noise(result, tiny)
    assert not result.success[3]
    assert torch.equal(noise.images[3], images[3])
    for i, size in enumerate(result.rms.tolist()):
        change = result.images[i] - images[i]
        assert size == pytest.approx(change.square().mean().sqrt().item(), abs=1e-15)
        expected = by_bisection(images[i], random_signs(images[i], 7 + i), size)
        torch.testing.assert_close(noise.images[i], expected, rtol=0, atol=1e-9)
    assert torch.equal(noise.labels, tiny(noise.images).argmax(1))
    torch.testing.assert_close(noise.explanation, GRADIENT(tiny, noise.images, labels))
    moved = (noise.explanation - result.maps_before).abs().sum((1, 2)) / 2
    torch.testing.assert_close(noise.dissimilarity, moved)


def test_noise_of_a_random_sign_attack_is_that_attack(tiny, tiny_batch):
    images, labels = tiny_batch[0].clamp(0.1, 0.9), tiny_batch[1]
    labels = tiny(images).argmax(1)
    result = attack("random", tiny, images, labels, seed=3)
    noise = attacks.matched_noise(result, tiny)
    torch.testing.assert_close(noise.images[result.success], result.images[result.success])
    assert metrics.compare(result.maps, noise.explanation, 20).topk_intersection[result.success.numpy()].min() == 1


def test_another_network_is_refused(tiny, tiny_batch):
    result = attack("topk", tiny, *tiny_batch)
    with pytest.raises(ValueError, match="model: expected the network that was attacked"):
        attacks.matched_noise(result, Tiny(seed=1).eval())


def test_where_no_attack_succeeds_there_is_no_noise(tiny, tiny_batch):
    result = attack("topk", tiny, tiny_batch[0], (tiny_batch[1] + 1) % 5)
    noise = attacks.matched_noise(result, tiny)
    assert torch.equal(noise.images, tiny_batch[0])
    assert (noise.dissimilarity == 0).all()
