"""The dissimilarity functions of the paper, and the random baseline."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fragile_utils import metrics
from fragile_utils._base import checks
from fragile_utils._base.contents import by_content
from fragile_utils._base.seeds import for_each, random_signs
from fragile_utils.attacks.base import Attack, MapProblem


@dataclass(frozen=True)
class TopK(Attack):
    """Push importance out of the `k` most salient pixels: D is minus what the new map has left in them.

    All pixels hold the whole mass of any map: `k` is less than the pixels of an image.
    """

    k: int = 1000

    def __post_init__(self) -> None:
        checks.count(self.k, "k")

    def reference(self, before: Tensor) -> Tensor:
        checks.count(self.k, "k", at_most=before[0].numel() - 1)
        return metrics.top_mask(before, self.k)

    def dissimilarity(self, maps: Tensor, reference: Tensor) -> Tensor:
        return -(maps * reference).sum(dim=(1, 2))


@dataclass(frozen=True)
class MassCenter(Attack):
    """Move the centre of mass of the map: D is its distance, in pixels, from where it was."""

    def reference(self, before: Tensor) -> Tensor:
        return metrics.center_of_mass(before)

    def dissimilarity(self, maps: Tensor, reference: Tensor) -> Tensor:
        shift = metrics.center_of_mass(maps) - reference
        # A distance of 0 has no gradient: any direction leads away. There, down and to the right is taken; and so it is
        # where the distance is rounding, as on a smooth network, which is its own surrogate.
        rounding = 10 * torch.finfo(maps.dtype).eps * max(maps.shape[1:])
        return torch.where(shift.abs().amax(dim=1) <= rounding, shift.sum(dim=1), shift.norm(dim=1))


@dataclass(frozen=True, eq=False, repr=False)
class Targeted(Attack):
    """Gather importance in a region of the image: D is the share of the map's mass in it.

    Parameters
    ----------
    region : Tensor (H, W) or (N, H, W), bool
        One for all images, or one for each; see module ``regions``.

    Raises
    ------
    ValueError
        If the region is not a boolean mask, or empty.
    """

    region: Tensor

    def __post_init__(self) -> None:
        expected = "region: expected a boolean mask (H, W) or (N, H, W)"
        if not isinstance(self.region, Tensor) or self.region.ndim not in (2, 3):
            raise ValueError(f"{expected}, got {checks.described(self.region)}")
        if self.region.dtype != torch.bool:
            raise ValueError(f"{expected}, got dtype {self.region.dtype}")
        if not self.region.flatten(-2).any(-1).all():
            raise ValueError(f"{expected} with at least one pixel, got an empty one")

    def reference(self, before: Tensor) -> Tensor:
        shape = tuple(self.region.shape)
        if shape not in (tuple(before.shape), tuple(before.shape[1:])):
            raise ValueError(f"region: expected a mask for maps of shape {tuple(before.shape)}, got {shape}")
        return self.region.to(before.device).expand_as(before)

    def of(self, rows: Tensor) -> "Targeted":
        """Return the same with the regions of these images."""
        if self.region.ndim == 2 or not rows.any():
            return self
        if len(self.region) != len(rows):
            raise ValueError(f"region: expected one for each of {len(rows)} images, got {len(self.region)}")
        return Targeted(self.region[rows.to(self.region.device)])

    def dissimilarity(self, maps: Tensor, reference: Tensor) -> Tensor:
        return (maps * reference).sum(dim=(1, 2))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Targeted) and by_content(self.region) == by_content(other.region)

    def __hash__(self) -> int:
        return hash(by_content(self.region))

    def __repr__(self) -> str:
        pixels = self.region.flatten(-2).sum(-1).flatten().tolist()
        return f"Targeted(region of {pixels[0] if len(pixels) == 1 else pixels} pixels)"


@dataclass(frozen=True)
class RandomSign(Attack):
    """The baseline: move each pixel and channel up or down by eps, at random, once. Nothing is climbed.

    D only records how far the map moved: the share of its mass that is elsewhere (total variation distance).
    """

    def dissimilarity(self, maps: Tensor, reference: Tensor) -> Tensor:
        return (maps - reference).abs().sum(dim=(1, 2)) / 2

    def direction(self, problem: MapProblem, x: Tensor) -> Tensor:
        return for_each(random_signs, x, problem.seeds)

    def schedule(self, eps: float, steps: int, step_size: float) -> tuple[int, float]:
        return 1, eps


ATTACKS: dict[str, Callable[..., Attack]] = {
    "topk": TopK,
    "mass-center": MassCenter,
    "targeted": Targeted,
    "random-sign": RandomSign,
}
