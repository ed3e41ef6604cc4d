"""How image files become a batch."""

import contextlib
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from fragile_utils._base import checks, schema
from fragile_utils.data.batch import Batch

Fit = Literal["crop", "stretch"]
HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}  # ISO/IEC 23008-12
LARGEST_SIDE = 4096  # pixels, of an image that is asked for
HEIC = "it is HEIC, which is not read here; save it as JPEG or PNG (an iPhone: Settings, Camera, Most Compatible)"
FULL_RANGE = "expected whole numbers of 16 bits in it, of which 65535 is white"
SCALE = "scale them, or save it with 8 bits"
PHOTOMETRIC, WHITE_IS_ZERO = 262, 0  # a tag of TIFF, and a value of it
DARK = 4096  # of 65536 values: where the largest is less, they are those of 8 or 12 bits, and all but black
LARGEST_FILE = 89_478_485  # pixels, of an image in a file: where Pillow begins to warn


def read_image(path: str | Path | BinaryIO, size: int | None = None, fit: Fit = "crop") -> Tensor:
    """Read an image file (its path, or an open file) of any mode as a tensor (3, H, W) in [0, 1].

    Transparent pixels are shown on white, the camera's orientation is applied, grey of 16 bits is scaled, numbers in
    [0, 1] are taken as they are, and the image is brought to `size` x `size` pixels by bilinear resampling with
    antialiasing.

    Raises
    ------
    ValueError
        If the file is missing, is not an image, is cut short, has more than 89 million pixels, or holds numbers of
        which nobody can know what is white, or, of more than 8 bits, in which 0 is white, or of 16 bits with the values
        of 8 or 12.
    """
    if not isinstance(path, (str, Path)) and not hasattr(path, "read"):
        raise ValueError(f"path: expected a path or an open file, got {schema.shown(path)}")
    if fit not in ("crop", "stretch"):
        raise ValueError(f"fit: expected 'crop' or 'stretch', got {fit!r}")
    if size is not None:
        checks.count(size, "size", LARGEST_SIDE)
    image = _decoded(path)
    if size is not None and image.size != (size, size):
        bilinear = Image.Resampling.BILINEAR
        image = ImageOps.fit(image, (size, size), bilinear) if fit == "crop" else image.resize((size, size), bilinear)
    return torch.from_numpy(np.array(image, dtype=np.float32) / 255).permute(2, 0, 1).contiguous()


def _decoded(path: str | Path | BinaryIO) -> Image.Image:
    """Return the image in a file, upright, in 8 bits of red, green and blue."""
    name = schema.shown(str(path))[1:-1] if isinstance(path, (str, Path)) else "this file"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                if image.width * image.height > LARGEST_FILE:
                    raise Image.DecompressionBombError
                deep = ";16" in str(image.tile[:1])
                image.load()
                if deep:
                    _check_colours(image)
                negative = image.format == "TIFF" and image.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO
                return _to_rgb(_as_bytes(ImageOps.exif_transpose(image), negative))
    except FileNotFoundError as error:
        raise ValueError(f"no such file: {name}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"cannot read {name} as an image: it has more than {LARGEST_FILE:,} pixels") from error
    except MemoryError:
        raise
    except Exception as error:  # whatever a decoder raises at a file that is not as it should be
        said = HEIC if _is_heic(path) else getattr(error, "strerror", None) or error
        raise ValueError(f"cannot read {name} as an image: {said}") from error


def _is_heic(path: str | Path | BinaryIO) -> bool:
    """Return whether a file is a photograph in HEIC, by its first bytes: phones name such files JPG too."""
    try:
        with open(path, "rb") if isinstance(path, (str, Path)) else contextlib.nullcontext(path) as file:
            file.seek(0)
            box = file.read(12)
    except (OSError, ValueError):
        return False
    return box[4:8] == b"ftyp" and box[8:12] in HEIC_BRANDS


def _as_bytes(image: Image.Image, negative: bool) -> Image.Image:
    """Return an image of whole numbers of 16 bits or of numbers in [0, 1] as one of bytes, and any other as it is.

    Raises
    ------
    ValueError
        If its numbers are others: what is white in it nobody can know. If it is `negative`, which Pillow turns where
        there are 8 bits, and not where there are more.
    """
    if image.mode != "F" and not image.mode.startswith("I"):
        return image
    if negative:
        raise ValueError("expected 0 to be black in it, got a TIFF in which it is white; save it with 8 bits")
    values = np.asarray(image, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError("it holds values that are not finite")
    low, high = values.min(), values.max()
    got = f"got {low:g} to {high:g}"
    if image.mode == "F":
        if low < -checks.TOLERANCE or high > 1 + checks.TOLERANCE:
            raise ValueError(f"expected numbers from 0 to 1 in it, {got}; scale them, or save it with 8 or 16 bits")
        top = 1
    else:
        if low < 0 or high > 65535:
            raise ValueError(f"expected whole numbers from 0 to 65535 in it, {got}; save it with 8 or 16 bits")
        if 0 < high < DARK:
            raise ValueError(f"{FULL_RANGE}, {got}; {SCALE}")
        top = 65535
    if isinstance(transparent := image.info.get("transparency"), int):  # a value of grey
        values = np.where(values == transparent, top, values)
    return Image.fromarray(np.uint8(np.clip(values / top, 0, 1) * 255 + 0.5))


def _check_colours(image: Image.Image) -> None:
    """Refuse colours of 16 bits, of which Pillow keeps the upper 8, if next to nothing is in these.

    What was below 256 is lost in them: it cannot be told from black. Black on a transparent ground is a drawing.
    """
    if image.mode not in ("RGB", "RGBA", "LA"):
        return
    high = max(end for _, end in image.convert("RGB").getextrema())
    drawn = image.has_transparency_data and image.convert("RGBA").getextrema()[3][0] < 255
    if 256 * high < DARK and not drawn:
        raise ValueError(f"{FULL_RANGE}, got none above {256 * high + 255}; {SCALE}")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def read_files(files: Sequence[tuple[Path, int]], classes: tuple[str, ...], size: int | None, fit: Fit) -> Batch:
    """Read image files, given with their labels, into a batch."""
    images = [read_image(path, size, fit) for path, _ in files]
    sizes = {tuple(image.shape[1:]) for image in images}
    if len(sizes) > 1:
        raise ValueError(f"expected images of one size, got {len(sizes)} sizes; give size=... to bring them to one")
    labels = torch.tensor([label for _, label in files])
    return Batch(torch.stack(images), labels, classes, _names([path for path, _ in files]))


def _names(paths: Sequence[Path]) -> tuple[str, ...]:
    """Return what images are called: their files' names, with the folders in which they differ where these are not.

    Bytes in them that are no Unicode are written as codes: a table of the names can be saved.
    """
    names = [path.name for path in paths]
    if len(set(names)) < len(names):
        above = os.path.commonpath([path.parent for path in paths])
        names = [path.relative_to(above).as_posix() for path in paths]
    return tuple(name.encode("utf-8", "backslashreplace").decode() for name in names)
