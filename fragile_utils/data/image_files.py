"""How image files become a batch."""

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from fragile_utils._base import checks
from fragile_utils.data.batch import Batch

Fit = Literal["crop", "stretch"]


def read_image(path: str | Path | BinaryIO, size: int | None = None, fit: Fit = "crop") -> Tensor:
    """Read an image file (its path, or an open file) of any mode as a tensor (3, H, W) in [0, 1].

    Transparent pixels are shown on white, the camera's orientation is applied, 16-bit grey is scaled, and the image is
    brought to `size` x `size` pixels by bilinear resampling with antialiasing.

    Raises
    ------
    ValueError
        If the file is missing, is not an image, or is cut short.
    """
    if fit not in ("crop", "stretch"):
        raise ValueError(f"fit: expected 'crop' or 'stretch', got {fit!r}")
    if size is not None:
        checks.count(size, "size")
    try:
        with Image.open(path) as image:
            image = _to_rgb(ImageOps.exif_transpose(image))
    except FileNotFoundError as error:
        raise ValueError(f"no such file: {path}") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        name = path if isinstance(path, (str, Path)) else "this file"
        raise ValueError(f"cannot read {name} as an image: {error}") from error
    if size is not None and image.size != (size, size):
        bilinear = Image.Resampling.BILINEAR
        image = ImageOps.fit(image, (size, size), bilinear) if fit == "crop" else image.resize((size, size), bilinear)
    return torch.from_numpy(np.array(image, dtype=np.float32) / 255).permute(2, 0, 1).contiguous()


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, dtype=np.float64)
        if not np.isfinite(values).all():
            raise ValueError("it holds values that are not finite")
        top = 65535 if image.mode.startswith("I") else max(values.max(), 1.0)
        image = Image.fromarray(np.uint8(np.clip(values / top, 0, 1) * 255 + 0.5))
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
    return Batch(torch.stack(images), labels, classes, tuple(path.name for path, _ in files))
