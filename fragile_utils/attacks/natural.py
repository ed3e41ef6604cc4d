"""Changes that nobody chose: what happens to an image on its way, as attacks of one step that climb nothing.

Beside an attack they say how much an explanation moves where no one means harm. None depends on the network.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from fragile_utils._base import checks
from fragile_utils._base.pixels import in_bytes
from fragile_utils.attacks.base import Attack, MapProblem


class Natural(Attack):
    """A change of an image. The budget says how much of it is let through: give 255 levels for all of it."""

    def change(self, images: Tensor) -> Tensor:
        """Return the changed images (N, 3, H, W), in [0, 1]."""
        raise TypeError(f"{type(self).__name__} does not say what it changes: expected it to define change()")

    def dissimilarity(self, maps: Tensor, reference: Tensor) -> Tensor:
        """Return the share (N,) of the map's mass that is elsewhere (total variation distance)."""
        return (maps - reference).abs().sum(dim=(1, 2)) / 2

    @torch.no_grad()
    def direction(self, problem: MapProblem, x: Tensor) -> Tensor:
        return self.change(x) - x

    def schedule(self, eps: float, steps: int, step_size: float) -> tuple[int, float]:
        return 1, 1.0


@dataclass(frozen=True)
class Jpeg(Natural):
    """Compress with JPEG, and open again."""

    quality: int = 90

    def __post_init__(self) -> None:
        checks.count(self.quality, "quality", at_most=100)

    def change(self, images: Tensor) -> Tensor:
        pixels = in_bytes(images).permute(0, 2, 3, 1).cpu().numpy()
        opened = np.stack([_compressed(image, self.quality) for image in pixels])
        return torch.from_numpy(opened).permute(0, 3, 1, 2).to(images) / 255


@dataclass(frozen=True)
class Shift(Natural):
    """Move the image to the right; its left edge is repeated."""

    pixels: int = 1

    def __post_init__(self) -> None:
        checks.count(self.pixels, "pixels")

    def change(self, images: Tensor) -> Tensor:
        checks.count(self.pixels, "pixels", at_most=images.shape[3] - 1)
        edge = images[..., :1].expand(*images.shape[:3], self.pixels)
        return torch.cat([edge, images[..., : -self.pixels]], dim=3)


@dataclass(frozen=True)
class Brightness(Natural):
    """Make the image brighter, by a share of its values."""

    percent: float = 2.0

    def __post_init__(self) -> None:
        checks.positive(self.percent, "percent")

    def change(self, images: Tensor) -> Tensor:
        return (images * (1 + self.percent / 100)).clamp(max=1)


@dataclass(frozen=True)
class Resize(Natural):
    """Make the image smaller, and as large again, bilinearly with antialiasing."""

    share: float = 0.9

    def __post_init__(self) -> None:
        checks.positive(self.share, "share", below=1)

    def change(self, images: Tensor) -> Tensor:
        sides: Sequence[int] = [max(1, round(side * self.share)) for side in images.shape[2:]]
        how = {"mode": "bilinear", "align_corners": False, "antialias": True}
        return F.interpolate(F.interpolate(images, sides, **how), images.shape[2:], **how).clamp(0, 1)


def _compressed(image: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


CHANGES = {"jpeg": Jpeg, "shift": Shift, "brightness": Brightness, "resize": Resize}
