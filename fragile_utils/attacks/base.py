"""What an attack on saliency maps is: the problem, and how one attack differs from another."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from fragile_utils import saliency
from fragile_utils._base.seeds import uniform
from fragile_utils.attacks.iterates import project

LEVEL = 1 / 255  # one step of an 8-bit pixel, in units of images in [0, 1]


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
