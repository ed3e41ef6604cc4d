"""Changes that nobody chose: what they do to an image, and that an attack leaves exactly that."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from fragile_utils import attacks, data, saliency


def images(count=3, side=16):
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("name", attacks.CHANGES)
def test_an_attack_of_all_levels_is_the_change_itself(name, tiny, tiny_batch):
    pictures, labels = tiny_batch
    change = attacks.CHANGES[name]()
    expected = change.change(pictures)
    result = attacks.run(change, tiny, pictures, labels, saliency.Gradient(), eps=1.0, steps=50)
    before, maps = (saliency.Gradient()(tiny, x, labels) for x in (pictures, expected))
    moved = (maps - before).abs().sum((1, 2)) / 2
    kept = (data.predict(tiny, expected) == labels) & (moved > 0)
    assert kept.sum() > 2
    torch.testing.assert_close(result.images[kept], expected[kept], atol=1e-6, rtol=0)
    assert torch.equal(result.images[~kept], pictures[~kept])
    assert result.success.tolist() == kept.tolist()
    torch.testing.assert_close(result.dissimilarity[kept], moved[kept])
    assert (expected != pictures).any()
    assert expected.min() >= 0
    assert expected.max() <= 1


def test_jpeg_is_that_of_pillow():
    changed = attacks.Jpeg(50).change(images())
    for one, other in zip(images(), changed, strict=True):
        file = io.BytesIO()
        pixels = (255 * one).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(file, "JPEG", quality=50)
        np.testing.assert_array_equal(np.asarray(Image.open(file)), (255 * other).round().byte().permute(1, 2, 0))


def test_a_shift_moves_each_column():
    changed = attacks.Shift(2).change(images())
    torch.testing.assert_close(changed[..., 2:], images()[..., :-2])
    torch.testing.assert_close(changed[..., :2], images()[..., :1].expand(-1, -1, -1, 2))


def test_brightness_is_a_factor():
    torch.testing.assert_close(attacks.Brightness(10).change(images() / 2), images() * 0.55)


def test_a_smooth_image_survives_a_smaller_size_and_noise_does_not():
    ramp = torch.linspace(0, 1, 64).expand(1, 3, 64, 64)
    change = attacks.Resize(0.9).change
    assert (change(ramp) - ramp).abs().mean() < 0.01
    assert (change(images(1, 64)) - images(1, 64)).abs().mean() > 0.05


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: attacks.Jpeg(0), "quality: expected a whole number from 1 to 100"),
        (lambda: attacks.Shift(0), "pixels: expected a whole number at least 1"),
        (lambda: attacks.Shift(16).change(images()), "pixels: expected a whole number from 1 to 15"),
        (lambda: attacks.Brightness(-1), "percent: expected a number above 0"),
        (lambda: attacks.Resize(1.5), "share: expected a number above 0 and below 1, got 1.5"),
    ],
)
def test_bad_options_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
