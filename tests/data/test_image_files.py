"""Image files of every mode, and files that are none."""

import numpy as np
import pytest
import torch
from pictures import RED, save
from PIL import Image

from fragile_utils import data


def as_mode(mode):
    return np.asarray(Image.fromarray(RED).convert(mode))


MODES = {
    "RGB": (RED, "png", (1, 0, 0)),
    "grey": (as_mode("L"), "png", (0.298,) * 3),
    "palette": (None, "gif", (1, 0, 0)),
    "CMYK": (None, "jpg", (1, 0, 0)),
    "transparent": (np.dstack([RED, np.zeros((40, 60), np.uint8)]), "png", (1, 1, 1)),
    "16-bit grey": (np.full((40, 60), 32768, np.uint16), "png", (0.5,) * 3),
    "float": (np.full((40, 60), 0.25, np.float32), "tiff", (0.25,) * 3),
}


@pytest.mark.parametrize("mode", MODES)
def test_images_of_any_mode_are_read_as_rgb(tmp_path, mode):
    array, suffix, colour = MODES[mode]
    image = (
        Image.fromarray(array)
        if array is not None
        else Image.fromarray(RED).convert({"gif": "P", "jpg": "CMYK"}[suffix])
    )
    path = tmp_path / f"x.{suffix}"
    image.save(path)
    got = data.read_image(path, 16)
    assert got.shape == (3, 16, 16)
    torch.testing.assert_close(got.mean(dim=(1, 2)), torch.tensor(colour).float(), atol=0.01, rtol=0)


def test_crop_cuts_the_centre_and_stretch_keeps_all(tmp_path):
    stripes = np.zeros((10, 30, 3), np.uint8)
    stripes[:, 10:20] = 255  # white in the middle third
    path = save(tmp_path / "x.png", stripes)
    assert data.read_image(path, 10, "crop").mean() == 1
    assert data.read_image(path, 10, "stretch").mean() == pytest.approx(1 / 3, abs=0.01)


def test_the_camera_orientation_is_applied(tmp_path):
    top_is_white = np.zeros((20, 20), np.uint8)
    top_is_white[:10] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    path = save(tmp_path / "x.png", top_is_white, exif=exif)
    assert data.read_image(path)[:, :10].mean() == 0


BAD = {
    "missing file": (lambda folder: data.read_image(folder / "none.png"), "no such file"),
    "not an image": (lambda folder: data.read_image(folder / "text.png"), "cannot read .*text.png as an image"),
    "cut short": (lambda folder: data.read_image(folder / "short.png"), "cannot read .*short.png as an image"),
    "NaN pixels": (lambda folder: data.read_image(folder / "nan.tiff"), "not finite"),
    "size 0": (lambda folder: data.read_image(folder / "plain/a.png", 0), "size: expected a whole number"),
    "fit": (lambda folder: data.read_image(folder / "plain/a.png", 4, "squash"), "'crop' or 'stretch'"),
    "sizes differ": (lambda folder: data.load(folder / "mixed", size=None), "images of one size"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_with_a_message(wrong, case):
    action, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        action(wrong)
