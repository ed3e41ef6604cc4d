"""What the commands share."""

import os

import numpy as np
from PIL import Image


def test_a_picture_that_cannot_be_written_leaves_nothing_half_done(fragile, tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    status, _, err = fragile("attack", "--steps", 1, "--images", 1, "--out", tmp_path / "pictures")
    assert status == 2
    assert "No space left on device; free some and start again" in err
    assert list((tmp_path / "pictures").iterdir()) == []


def test_the_picture_of_an_image_with_a_long_name_has_a_shorter_one(fragile, tmp_path):
    image = tmp_path / f"{'ü' * 120}.png"
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(image)
    few = ("--steps", 1, "--attack", "random-sign", "--out", tmp_path / "pictures")
    assert fragile("attack", "--model", "cifar10", "--data", image, *few)[0] == 0
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == [f"000_{'ü' * 100}.png"]
