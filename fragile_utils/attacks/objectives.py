"""What an attack on saliency maps climbs, and in which direction: the dissimilarity functions of the paper."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from fragile_utils import checks, metrics, saliency
from fragile_utils.baseline import by_content
from fragile_utils.iterates import project, random_signs, uniform


@dataclass(frozen=True)
class Problem:
    """The images under attack and everything that stays fixed while they are."""

    model: nn.Module
    surrogate: nn.Module
    method: saliency.Method
    guide: saliency.Method  # the method, or one that is cheaper, for directions
    images: Tensor  # (N, 3, H, W), the originals
    labels: Tensor  # (N,), predicted on the originals, and to be kept
    reference: Any  # what the attack remembers of the original maps
    eps: float
    seeds: tuple[int, ...]  # one for each image

    def __getitem__(self, rows: Tensor) -> "Problem":
        """Return the same of some of the images; `rows` is boolean (N,)."""
        seeds = tuple(seed for seed, kept in zip(self.seeds, rows.tolist(), strict=True) if kept)
        some = {name: getattr(self, name)[rows] for name in ("images", "labels", "reference")}
        return replace(self, **some, seeds=seeds)

    def clip(self, x: Tensor) -> Tensor:
        """Return the nearest images within eps of the originals and within [0, 1]."""
        return project(x, self.images, self.eps)

    def start(self, at_random: bool) -> Tensor:
        """Return the images from which the attack sets out: the originals, or random points of the eps-ball."""
        if not (at_random and len(self.images)):
            return self.images
        noise = torch.stack([uniform(image, seed) for image, seed in zip(self.images, self.seeds, strict=True)])
        return self.clip(self.images + self.eps * noise)

    def evaluate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the maps (N, H, W) and the logits (N, classes) of the network itself, from one forward pass."""
        attributions, logits = self.method.explain(self.model, x, self.labels)
        return saliency.normalize(attributions), logits


class Attack:
    """What distinguishes one attack from another: what it climbs, in which direction, and how far at a time."""

    def reference(self, before: Tensor) -> Tensor:
        """Return what the dissimilarity needs to know of the original maps (N, H, W); its first axis is N."""
        return before

    def dissimilarity(self, maps: Tensor, reference: Tensor) -> Tensor:
        """Return D (N,), which the attack makes large, of new maps (N, H, W). Differentiable."""
        raise TypeError(f"{type(self).__name__} does not say what it climbs: expected it to define dissimilarity()")

    @torch.enable_grad()
    def direction(self, problem: Problem, x: Tensor) -> Tensor:
        """Return the sign (N, 3, H, W) of the gradient of D with respect to the images, on the surrogate."""
        x = x.detach().requires_grad_()
        attributions, _ = problem.guide.explain(problem.surrogate, x, problem.labels, create_graph=True)
        dissimilarity = self.dissimilarity(saliency.normalize(attributions), problem.reference)
        if not dissimilarity.requires_grad:  # a linear score: its gradient is the same everywhere
            return torch.zeros_like(x)
        (gradient,) = torch.autograd.grad(dissimilarity.sum(), x)
        return gradient.sign()

    def schedule(self, eps: float, steps: int, step_size: float) -> tuple[int, float]:
        """Return the number of steps and their size."""
        return steps, step_size


@dataclass(frozen=True)
class TopK(Attack):
    """Push importance out of the `k` most salient pixels: D is minus what the new map has left in them."""

    k: int = 1000

    def __post_init__(self) -> None:
        checks.count(self.k, "k")

    def reference(self, before: Tensor) -> Tensor:
        checks.count(self.k, "k", at_most=before[0].numel())
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
        # A distance of 0 has no gradient: any direction leads away. There, down and to the right is taken.
        return torch.where((shift == 0).all(dim=1), shift.sum(dim=1), shift.norm(dim=1))


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

    def direction(self, problem: Problem, x: Tensor) -> Tensor:
        return torch.stack([random_signs(image, seed) for image, seed in zip(x, problem.seeds, strict=True)])

    def schedule(self, eps: float, steps: int, step_size: float) -> tuple[int, float]:
        return 1, eps


ATTACKS: dict[str, Callable[..., Attack]] = {
    "topk": TopK,
    "mass-center": MassCenter,
    "targeted": Targeted,
    "random-sign": RandomSign,
}
