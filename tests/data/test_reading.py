"""Image files of every mode, and files that are none."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
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
    "16-bit TIFF": (np.full((40, 60), 16384, np.uint16), "tiff", (0.25,) * 3),
    "32-bit TIFF": (np.full((40, 60), 32768, np.int32), "tiff", (0.5,) * 3),
    "black 16-bit grey": (np.zeros((40, 60), np.uint16), "png", (0,) * 3),
    "dark 16-bit grey": (np.full((40, 60), 4112, np.uint16), "png", (16 / 255,) * 3),
    "black 32-bit TIFF": (np.zeros((40, 60), np.int32), "tiff", (0,) * 3),
    "float": (np.full((40, 60), 0.25, np.float32), "tiff", (0.25,) * 3),
    "float, rounded": (np.full((40, 60), 1.00005, np.float32), "tiff", (1,) * 3),
    "two colours": (np.zeros((40, 60), bool), "png", (0,) * 3),
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


def test_a_tiff_of_8_bits_in_which_0_is_white_is_read(tmp_path):
    """Its bytes are those that the standard says."""
    path = white_is_zero(tmp_path, np.array([[1, 2, 200]], np.uint8))
    assert path.read_bytes().count(bytes([254, 253, 55])) == 1
    assert (data.read_image(path)[0, 0] * 255).tolist() == [1, 2, 200]


@pytest.mark.parametrize("upside_down", [False, True])
def test_a_transparent_grey_of_16_bits_is_white(tmp_path, upside_down):
    """PNG, 11.3.2.1: of grey, one value is transparent, of all its bits; the next one is not."""
    exif = Image.Exif()
    exif[0x0112] = 3 if upside_down else 1
    path = save(tmp_path / "x.png", np.array([[257, 258, 65535, 0]], np.uint16), exif=exif)
    content = path.read_bytes()
    at = content.index(b"IDAT") - 4
    path.write_bytes(content[:at] + chunk(b"tRNS", struct.pack(">H", 257)) + content[at:])
    found = (data.read_image(path)[0, 0] * 255).tolist()
    assert (found[::-1] if upside_down else found) == [255, 1, 255, 0]


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


def test_a_photograph_from_a_phone_is_read_upright(tmp_path):
    """12 megapixels, held sideways: sky above, ground below, once the orientation is applied."""
    sideways = np.zeros((3024, 4032, 3), np.uint8)
    sideways[:, :2016] = (0, 0, 255)  # the sky is at the left of the sensor
    exif = Image.Exif()
    exif[0x0112] = 6
    got = data.read_image(save(tmp_path / "IMG_0001.jpg", sideways, exif=exif), 64)
    assert got[2, :30].min() > 0.9
    assert got[2, 34:].max() < 0.1


def test_a_name_that_is_no_unicode_has_codes_for_its_bytes(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/x\xff.png")
    try:
        save(Path(path), RED)
    except OSError:
        pytest.skip("this file system has Unicode names only")
    assert data.load(tmp_path).names == (r"x\udcff.png",)


@pytest.mark.parametrize("name", ["IMG_0001.HEIC", "IMG_0001.jpg"])
@pytest.mark.parametrize("brand", [b"heic", b"mif1"])
def test_heic_is_refused_in_words(tmp_path, name, brand):
    (tmp_path / name).write_bytes(b"\0\0\0\x18ftyp" + brand + bytes(100))
    for read in (data.read_image, lambda path: data.load(path.parent)):
        with pytest.raises(ValueError, match=rf"cannot read .*{name} as an image: it is HEIC, .* as JPEG or PNG"):
            read(tmp_path / name)


def tiff(folder, array):
    Image.fromarray(array).save(folder / "depth.tiff")
    return folder / "depth.tiff"


def big_endian(folder, values):
    """A TIFF of whole numbers of 16 bits, the upper byte first."""
    Image.frombytes("I;16B", (len(values), 1), np.array(values, ">u2").tobytes()).save(folder / "dark.tiff")
    return folder / "dark.tiff"


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def colours(folder, value, alpha=None):
    """A PNG of one pixel with 16 bits of each of its colours, all of this value."""
    header = struct.pack(">IIBBBBB", 1, 1, 16, 2 if alpha is None else 6, 0, 0, 0)
    pixel = struct.pack(">3H", *[value] * 3) + (b"" if alpha is None else struct.pack(">H", alpha))
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" + pixel)) + chunk(b"IEND", b"")
    (folder / "dark.png").write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    return folder / "dark.png"


def test_colours_of_16_bits_are_read(tmp_path):
    assert (data.read_image(colours(tmp_path, 4096)) * 255).unique().tolist() == [16]
    assert (data.read_image(colours(tmp_path, 65535)) * 255).unique().tolist() == [255]
    assert (data.read_image(colours(tmp_path, 0, alpha=0)) * 255).unique().tolist() == [255]


def large(folder, size):
    """A file that says that it has many pixels, and ends."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 1, 0, 0, 0, 0))
    (folder / "large.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + bytes(4) + b"IDAT" + bytes(4))
    return folder / "large.png"


def white_is_zero(folder, array):
    """A TIFF that says of its numbers that 0 is white, as the standard has it (tag 262)."""
    Image.fromarray(array).save(folder / "negative.tiff", tiffinfo={262: 0})
    return folder / "negative.tiff"


BAD = {
    "missing file": (lambda folder: data.read_image(folder / "none.png"), "no such file"),
    "not an image": (lambda folder: data.read_image(folder / "text.png"), "cannot read .*text.png as an image"),
    "cut short": (lambda folder: data.read_image(folder / "short.png"), "cannot read .*short.png as an image"),
    "more than 16 bits": (
        lambda folder: data.read_image(tiff(folder, np.array([[0, 70_000]], np.int32))),
        "depth.tiff as an image: expected whole numbers from 0 to 65535 in it, got 0 to 70000; save it with 8",
    ),
    "negative whole numbers": (
        lambda folder: data.read_image(tiff(folder, np.array([[-1, 5]], np.int32))),
        "expected whole numbers from 0 to 65535 in it, got -1 to 5",
    ),
    "8 bits in 32": (
        lambda folder: data.read_image(tiff(folder, np.array([[0, 255]], np.int32))),
        "expected whole numbers of 16 bits in it, of which 65535 is white, got 0 to 255; scale them, or save it with 8",
    ),
    "8 bits in 16": (
        lambda folder: data.read_image(save(folder / "dark.png", np.array([[0, 255]], np.uint16))),
        "dark.png as an image: expected whole numbers of 16 bits in it, of which 65535 is white, got 0 to 255; scale",
    ),
    "8 bits in a TIFF of 16, of either order": (
        lambda folder: data.read_image(big_endian(folder, [0, 200])),
        "dark.tiff as an image: expected whole numbers of 16 bits in it, of which 65535 is white, got 0 to 200; scale",
    ),
    "12 bits in 16": (
        lambda folder: data.read_image(save(folder / "dark.png", np.array([[7, 4095]], np.uint16))),
        "expected whole numbers of 16 bits in it, of which 65535 is white, got 7 to 4095; scale them, or save it",
    ),
    "8 bits in 16 of each colour": (
        lambda folder: data.read_image(colours(folder, 255)),
        "dark.png as an image: expected whole numbers of 16 bits in it, of which 65535 is white, got none above 255;",
    ),
    "12 bits in 16 of each colour": (
        lambda folder: data.read_image(colours(folder, 4095)),
        "expected whole numbers of 16 bits in it, of which 65535 is white, got none above 4095; scale them, or save it",
    ),
    "negative numbers": (
        lambda folder: data.read_image(tiff(folder, np.array([[-0.5, 1]], np.float32))),
        "depth.tiff as an image: expected numbers from 0 to 1 in it, got -0.5 to 1; scale them, or save it",
    ),
    "numbers up to 255": (
        lambda folder: data.read_image(tiff(folder, np.array([[0, 255]], np.float32))),
        "expected numbers from 0 to 1 in it, got 0 to 255",
    ),
    "white is 0, in 16 bits": (
        lambda folder: data.read_image(white_is_zero(folder, np.array([[0, 65535]], np.uint16))),
        "negative.tiff as an image: expected 0 to be black in it, got a TIFF in which it is white; save it with 8 bits",
    ),
    "white is 0, in numbers": (
        lambda folder: data.read_image(white_is_zero(folder, np.array([[0, 1]], np.float32))),
        "negative.tiff as an image: expected 0 to be black in it, got a TIFF in which it is white; save it with 8 bits",
    ),
    "no path": (lambda folder: data.read_image(None), "path: expected a path or an open file, got None"),
    "more pixels than are read": (
        lambda folder: data.read_image(large(folder, (10_000, 9_000))),
        r"large\.png as an image: it has more than 89,478,485 pixels$",
    ),
    "many more pixels": (
        lambda folder: data.read_image(large(folder, (20_000, 20_000))),
        r"large\.png as an image: it has more than 89,478,485 pixels$",
    ),
    "a side without an end": (
        lambda folder: data.read_image(folder / "plain/a.png", 10**9),
        "from 1 to 4096, got 10000",
    ),
    "a name without an end": (
        lambda folder: data.read_image(folder / ("x" * 5000)),
        "cannot read .*File name too long",
    ),
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


def whole(kind, mode):
    content = io.BytesIO()
    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3)).convert(mode).save(content, format=kind)
    return content.getvalue()


FILES = [whole(*how) for how in (("PNG", "RGBA"), ("GIF", "P"), ("TIFF", "F"), ("BMP", "RGB"), ("JPEG", "CMYK"))]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(file=st.sampled_from(FILES), changes=st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=4)), max_size=4))
def test_a_damaged_file_is_read_or_refused(file, changes):
    for share, put in changes:
        at = int(share * len(file))
        file = file[:at] + put + file[at + max(1, len(put)) :]
    try:
        image = data.read_image(io.BytesIO(file))
    except ValueError as error:
        image, said = None, str(error)
    if image is None:
        assert said.startswith("cannot read this file as an image: ")
    else:
        assert image.ndim == 3
        assert 0 <= image.min() <= image.max() <= 1


PORTABLE = {  # as their standard has them: the largest value, which is white, stands in the header
    "pgm of 8 bits": ("pgm", b"P5\n3 1\n255\n" + bytes([0, 51, 255])),
    "pgm of 16 bits": ("pgm", b"P5\n3 1\n65535\n" + np.array([0, 13107, 65535], ">u2").tobytes()),
    "pgm of 12 bits": ("pgm", b"P5\n3 1\n4095\n" + np.array([0, 819, 4095], ">u2").tobytes()),
    "pgm of 4 bits": ("pgm", b"P5\n3 1\n15\n" + bytes([0, 3, 15])),
    "pgm in words": ("pnm", b"P2\n3 1\n255\n0 51 255\n"),
    "ppm": ("ppm", b"P6\n3 1\n255\n" + bytes([0, 0, 0, 51, 51, 51, 255, 255, 255])),
    "ppm of 12 bits": ("ppm", b"P6\n3 1\n4095\n" + np.array([0, 819, 4095], ">u2").repeat(3).tobytes()),
}


@pytest.mark.parametrize("name", PORTABLE)
def test_portable_files_are_read_by_their_largest_value_and_found_in_folders(tmp_path, name):
    suffix, content = PORTABLE[name]
    (tmp_path / f"x.{suffix}").write_bytes(content)
    (path,) = data.image_files(tmp_path)
    assert (data.read_image(path)[:, 0] * 255).round().tolist() == [[0, 51, 255]] * 3
