"""What an attack is: the problem that it solves, and how one attack on saliency maps differs from another."""

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from fragile_utils import saliency
from fragile_utils._base.held import PerImage
from fragile_utils._base.seeds import for_each, uniform
from fragile_utils.attacks.result import Outcome
from fragile_utils.models.surrogate import SoftplusSurrogate
from fragile_utils.saliency.method import finite


@dataclass(frozen=True, kw_only=True)
class Problem:
    """The images under attack and everything that stays fixed while they are.

    Parameters
    ----------
    images : Tensor (N, 3, H, W)
        The originals.
    labels : Tensor (N,)
        Predicted on the originals, and to be kept.
    eps : float
    seeds : tuple of int
        One for each image.
    """

    images: Tensor
    labels: Tensor
    eps: float
    seeds: tuple[int, ...]

    def direction(self, x: Tensor) -> Tensor:
        """Return the sign (N, 3, H, W) of the gradient of D at `x`."""
        raise NotImplementedError

    def evaluate(self, x: Tensor) -> tuple[Outcome, Tensor]:
        """Return what there is to say of `x`, and whether each image may be kept (N,), bool."""
        raise NotImplementedError

    def clip(self, x: Tensor) -> Tensor:
        """Return the nearest images within eps of the originals and within [0, 1]."""
        return project(x, self.images, self.eps)

    def start(self, at_random: bool) -> Tensor:
        """Return the images from which the attack sets out: the originals, or random points of the eps-ball."""
        if not at_random:
            return self.images
        return self.clip(self.images + self.eps * for_each(uniform, self.images, self.seeds))

    def __getitem__(self, rows: Tensor) -> "Problem":
        """Return the same of some of the images; `rows` is boolean (N,)."""
        seeds = tuple(seed for seed, kept in zip(self.seeds, rows.tolist(), strict=True) if kept)
        return replace(self, images=self.images[rows], labels=self.labels[rows], seeds=seeds)


@dataclass(frozen=True, kw_only=True)
class MapProblem(Problem):
    """The problem of an attack on saliency maps.

    Parameters
    ----------
    attack : Attack
    model : Module
        On which everything is measured.
    surrogate : SoftplusSurrogate
        On which directions are taken.
    method, guide : Method
        Whose maps are attacked, and whose directions are taken: the same, or one that is cheaper.
    reference
        What the attack remembers of the original maps.
    shared : bool
        Whether the surrogate computes what the network does, and the guide is the method: then the map that is measured
        is the one that the next direction differentiates, and both are computed once.
    """

    attack: "Attack"
    model: nn.Module
    surrogate: SoftplusSurrogate
    method: saliency.Method
    guide: saliency.Method
    reference: Any
    shared: bool = False
    # What was measured last: x, the same images as a leaf, and attributions as a function of them. A copy has its own.
    _last: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list, init=False, repr=False, compare=False)

    def __getitem__(self, rows: Tensor) -> "MapProblem":
        held = {name: getattr(self, name).of(rows) for name in ("attack", "method", "guide")}
        return replace(super().__getitem__(rows), reference=self.reference[rows], **held)

    def direction(self, x: Tensor) -> Tensor:
        return self.attack.direction(self, x)

    def evaluate(self, x: Tensor) -> tuple[Outcome, Tensor]:
        attributions, logits = self._with_graph(x) if self.shared else self.method.explain(self.model, x, self.labels)
        maps, predicted = saliency.normalize(attributions), logits.argmax(1)
        # A map that vanished, or is not finite, is a failure of the method and no explanation to compare with.
        allowed = (predicted == self.labels) & (maps.sum(dim=(1, 2)) > 0)
        dissimilarity = self.attack.dissimilarity(maps, self.reference)
        return Outcome(x, maps, predicted, confidence(logits, self.labels), dissimilarity), allowed

    def differentiable(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the images `x`, and the guide's attributions on the surrogate as a function of them."""
        if self._last:
            measured, images, attributions = self._last.pop()
            if measured is x:
                return images, attributions
            del images, attributions
        images = x.detach().requires_grad_()
        return images, self.guide.attributions(self.surrogate, images, self.labels, create_graph=True)

    def _with_graph(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return attributions and logits of the network, and keep the former as a function for the next direction."""
        images, attributions, logits = explained_with_graph(self.guide, self.surrogate, x, self.labels)
        if self.surrogate.replaced:  # by a network that computes other functions here than at the originals
            return self.method.explain(self.model, x, self.labels)
        self._last[:] = [(x, images, attributions)]
        return attributions.detach(), logits


@torch.enable_grad()
def explained_with_graph(
    guide: saliency.Method, surrogate: SoftplusSurrogate, x: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the images `x` (N, 3, H, W), attributions as a function of them, and logits (N, classes) as constants."""
    images = x.detach().requires_grad_()
    attributions, logits = guide.explain(surrogate, images, labels, create_graph=True)
    return images, attributions, logits.detach()


class Attack(PerImage):
    """What distinguishes one attack from another: what it climbs, in which direction, and how far at a time."""

    def reference(self, before: Tensor) -> Any:
        """Return what the dissimilarity needs to know of the original maps (N, H, W), indexed by image."""
        return before

    def dissimilarity(self, maps: Tensor, reference: Any) -> Tensor:
        """Return D (N,), which the attack makes large, of new maps (N, H, W). Differentiable."""
        raise TypeError(f"{type(self).__name__} does not say what it climbs: expected it to define dissimilarity()")

    @torch.enable_grad()
    def direction(self, problem: MapProblem, x: Tensor) -> Tensor:
        """Return the sign (N, 3, H, W) of the gradient of D with respect to the images, on the surrogate."""
        x, attributions = problem.differentiable(x)
        return ascent(self.dissimilarity(saliency.normalize(attributions), problem.reference), x)

    def schedule(self, eps: float, steps: int, step_size: float) -> tuple[int, float]:
        """Return the number of steps and their size."""
        return steps, step_size


def ascent(climbed: Tensor, x: Tensor) -> Tensor:
    """Return the sign (N, 3, H, W) of the gradient of values (N,) by the images `x`: 0 where they do not depend on it.

    The gradient of a linear score is such a value: it is the same everywhere.
    """
    if not climbed.requires_grad:
        return torch.zeros_like(x)
    (gradient,) = torch.autograd.grad(climbed.sum(), x, materialize_grads=True)
    return gradient.sign()


def project(x: Tensor, originals: Tensor, eps: float | Tensor) -> Tensor:
    """Return the nearest images to `x` within eps of `originals` and within [0, 1]; eps may be a tensor ()."""
    eps = torch.as_tensor(eps - torch.finfo(x.dtype).eps / 2, dtype=x.dtype).clamp(min=0)  # rounding never leaves it
    return x.clamp(originals - eps, originals + eps).clamp_(0, 1)


def finite_maps(attributions: Tensor) -> tuple[Tensor, Tensor]:
    """Return maps (N, H, W) of attributions (N, 3, H, W), zeros where one is not finite, and which are (N,), bool."""
    maps = saliency.normalize(attributions)
    known = finite(maps)
    return torch.where(known[:, None, None], maps, 0), known


def confidence(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the probability (N,) of each image's label."""
    return logits.softmax(1).gather(1, labels[:, None]).squeeze(1)
