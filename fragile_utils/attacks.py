"""Attacks on explanations: Algorithm 1 of the paper, and the dissimilarity functions that it climbs.

An attack looks for an image that the eye cannot tell from the original, on which the network predicts the same class,
and whose saliency map I is as different as possible: maximise D(I(x), I(x + d)) subject to |d|_inf <= eps and the same
prediction (Ghorbani, Abid, Zou, *Interpretation of Neural Networks is Fragile*, AAAI 2019, problem 1).
"""

from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from fragile_utils import checks, metrics, saliency
from fragile_utils.surrogate import softplus_surrogate

LEVEL = 1 / 255  # one step of an 8-bit pixel, in units of images in [0, 1]


@dataclass(frozen=True)
class Problem:
    """The images under attack and everything that stays fixed while they are."""

    model: nn.Module
    surrogate: nn.Module
    method: saliency.Method
    images: Tensor  # (N, 3, H, W), the originals
    labels: Tensor  # (N,), predicted on the originals, and to be kept
    reference: Any  # what the attack remembers of the original maps
    eps: float
    seeds: tuple[int, ...]  # one for each image

    def clip(self, x: Tensor) -> Tensor:
        """Return the nearest images within eps of the originals and within [0, 1]."""
        eps = self.eps - torch.finfo(x.dtype).eps / 2  # so that rounding never leaves the ball
        return x.clamp(self.images - eps, self.images + eps).clamp_(0, 1)

    def evaluate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the maps (N, H, W) and the predictions (N,) of the network itself, from one forward pass."""
        attributions, logits = self.method.explain(self.model, x, self.labels)
        return saliency.normalize(attributions), logits.argmax(1)


class Attack:
    """What distinguishes one attack from another: what it climbs, in which direction, and how far at a time."""

    def reference(self, before: Tensor) -> Tensor:
        """Return what the dissimilarity needs to know of the original maps (N, H, W); its first axis is N."""
        return before

    def dissimilarity(self, maps: Tensor, reference: Tensor) -> Tensor:
        """Return D (N,), which the attack makes large, of new maps (N, H, W). Differentiable."""
        raise TypeError(f"{type(self).__name__} does not say what it climbs: expected it to define dissimilarity()")

    def direction(self, problem: Problem, x: Tensor) -> Tensor:
        """Return the sign (N, 3, H, W) of the gradient of D with respect to the images, on the surrogate."""
        x = x.detach().requires_grad_()
        attributions, _ = problem.method.explain(problem.surrogate, x, problem.labels, create_graph=True)
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


ATTACKS: dict[str, type[Attack]] = {"topk": TopK, "random-sign": RandomSign}


@dataclass(frozen=True)
class Result:
    """What an attack found, image by image.

    Attributes
    ----------
    images : Tensor (N, 3, H, W)
        The perturbed images; the original where the attack did not succeed.
    maps_before, maps : Tensor (N, H, W)
        The saliency maps of the originals and of `images`, on the network itself.
    labels, labels_after : Tensor (N,)
        The class that is explained, and the prediction on `images`. They differ only on an image that the model gets
        wrong to begin with, which is not attacked.
    linf : Tensor (N,)
        The largest change of any pixel, in units of images in [0, 1].
    success : Tensor (N,), bool
        Whether some iterate kept the label and moved the map.
    reasons : tuple of str
        "" where the attack succeeded, else why it did not.
    dissimilarity_before, dissimilarity : Tensor (N,)
        D at the originals and at `images`.
    iteration : Tensor (N,)
        Which iterate was kept, counted from 1; 0 for the original.
    curve : Tensor (P, N)
        D at each iterate; NaN for images that were not attacked.
    """

    attack: Attack
    method: saliency.Method
    eps: float
    steps: int
    step_size: float
    seed: int
    beta: float
    images: Tensor = field(repr=False)
    maps_before: Tensor = field(repr=False)
    maps: Tensor = field(repr=False)
    labels: Tensor = field(repr=False)
    labels_after: Tensor = field(repr=False)
    linf: Tensor = field(repr=False)
    success: Tensor = field(repr=False)
    reasons: tuple[str, ...] = field(repr=False)
    dissimilarity_before: Tensor = field(repr=False)
    dissimilarity: Tensor = field(repr=False)
    iteration: Tensor = field(repr=False)
    curve: Tensor = field(repr=False)

    def compare(self, k: int) -> pd.DataFrame:
        """Return a table with one row for each image: what became of its label, and the three measures of change.

        Columns: ``label``, ``label_after``, ``linf`` (in [0, 1] units), ``success``, and those of `metrics.compare`.
        """
        outcome = {
            "label": self.labels.tolist(),
            "label_after": self.labels_after.tolist(),
            "linf": self.linf.tolist(),
            "success": self.success.tolist(),
        }
        return pd.DataFrame(outcome).join(metrics.compare(self.maps_before, self.maps, k))


def run(
    attack: Attack,
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    method: saliency.Method,
    *,
    eps: float,
    steps: int = 300,
    step_size: float = 0.5 * LEVEL,
    seed: int = 0,
    beta: float | None = None,
    progress: bool = False,
) -> Result:
    """Attack the explanation of each image: Algorithm 1 of the paper, on a whole batch.

    Parameters
    ----------
    attack : Attack
        What is climbed, `TopK` for example, or the baseline `RandomSign`.
    model : Module
        In evaluation mode: images in [0, 1] to logits. Maps and predictions are measured on it; directions are taken on
        its softplus surrogate.
    images : Tensor (N, 3, H, W)
        In [0, 1].
    labels : Tensor (N,)
        Their classes. An image on which the model predicts another is not attacked, and reported as such.
    method : Method
        The attribution method whose maps are attacked.
    eps : float
        The largest allowed change of a pixel, in units of images in [0, 1]: ``8 / 255``.
    steps : int
        P, the number of iterates. `RandomSign` takes one step of size eps, whatever is given.
    step_size : float
        The size of a step, in units of images in [0, 1].
    seed : int
        Image i draws what is random from ``seed + i`` alone, the same on any device and in any batch.
    beta : float, optional
        Sharpness of the surrogate; see `softplus_surrogate`.
    progress : bool
        Show a progress bar. An interrupt (Ctrl-C) ends the loop and returns the best so far.

    Returns
    -------
    Result
        For each image, of all iterates with the prediction unchanged, the one with the largest D.

    Raises
    ------
    ValueError
        If an argument is not as described.

    References
    ----------
    Ghorbani, Abid, Zou, *Interpretation of Neural Networks is Fragile*, AAAI 2019, Algorithm 1.
    """
    checks.evaluation_mode(model)
    checks.images(images)
    checks.labels(labels, len(images))
    eps, step_size = checks.positive(eps, "eps"), checks.positive(step_size, "step_size")
    steps, step_size = attack.schedule(eps, checks.count(steps, "steps"), step_size)
    surrogate = softplus_surrogate(model, beta)
    images = images.detach().clamp(0, 1)
    if images.device.type == "cpu":  # where convolutions are up to a half faster in this layout
        images = images.contiguous(memory_format=torch.channels_last)

    attributions, logits = method.explain(model, images, labels)
    checks.labels(labels, len(images), checks.logits(logits, len(images)).shape[1])
    before, predicted = saliency.normalize(attributions), logits.argmax(1)
    reference = attack.reference(before)
    start = attack.dissimilarity(before, reference)
    reasons = _reasons_not_to_attack(before, labels, predicted)

    rows = torch.tensor([i for i, reason in enumerate(reasons) if not reason], dtype=torch.long)
    seeds = tuple(seed + i for i in rows.tolist())
    rows = rows.to(images.device)
    problem = Problem(model, surrogate, method, images[rows], labels[rows], reference[rows], eps, seeds)
    best, curve = _climb(attack, problem, before[rows], start[rows], steps if len(rows) else 0, step_size, progress)
    for i, kept, moved in zip(rows.tolist(), best.kept.tolist(), best.success.tolist(), strict=True):
        reasons[i] = "" if moved else "no iterate moved the map" if kept else "no iterate kept the label"

    perturbed = images.index_copy(0, rows, best.images).contiguous()
    return Result(
        attack=attack,
        method=method,
        eps=eps,
        steps=steps,
        step_size=step_size,
        seed=seed,
        beta=surrogate.beta,
        images=perturbed,
        maps_before=before,
        maps=before.index_copy(0, rows, best.maps),
        labels=labels,
        labels_after=predicted,
        linf=(perturbed - images).abs().amax(dim=(1, 2, 3)),
        success=torch.zeros_like(labels, dtype=torch.bool).index_copy(0, rows, best.success),
        reasons=tuple(reasons),
        dissimilarity_before=start,
        dissimilarity=start.index_copy(0, rows, best.dissimilarity),
        iteration=torch.zeros_like(labels).index_copy(0, rows, best.iteration),
        curve=start.new_full((len(curve), len(images)), torch.nan).index_copy(1, rows, curve),
    )


def _climb(
    attack: Attack, problem: Problem, before: Tensor, start: Tensor, steps: int, step_size: float, progress: bool
) -> tuple["_Best", Tensor]:
    """Run Algorithm 1 and return the best iterate of each image, and D at each iterate (P, N)."""
    x = problem.images
    best = _Best(problem.images, before, start)
    curve = []
    try:
        for p in tqdm(range(1, steps + 1), desc="attack", unit="step", disable=not progress, leave=False):
            x = problem.clip(x + step_size * attack.direction(problem, x))
            maps, predicted = problem.evaluate(x)
            dissimilarity = attack.dissimilarity(maps, problem.reference)
            curve.append(dissimilarity)
            best.update(p, x, maps, dissimilarity, predicted == problem.labels)
    except KeyboardInterrupt:
        pass  # the best so far is an answer
    best.fall_back(problem.images, before, start)
    return best, torch.stack(curve) if curve else start.new_empty(0, len(start))


class _Best:
    """Of all iterates with the prediction unchanged, the one with the largest D; image by image, on the device."""

    def __init__(self, images: Tensor, maps: Tensor, start: Tensor) -> None:
        self.images, self.maps = images, maps
        self.dissimilarity = torch.full_like(start, -torch.inf)
        self.iteration = torch.zeros_like(start, dtype=torch.long)

    def update(self, p: int, images: Tensor, maps: Tensor, dissimilarity: Tensor, same_label: Tensor) -> None:
        # A map that vanished, or is not finite, is a failure of the method and no explanation to compare with.
        better = same_label & (dissimilarity > self.dissimilarity) & (maps.sum(dim=(1, 2)) > 0)
        self.images = torch.where(better[:, None, None, None], images, self.images)
        self.maps = torch.where(better[:, None, None], maps, self.maps)
        self.dissimilarity = torch.where(better, dissimilarity, self.dissimilarity)
        self.iteration = torch.where(better, p, self.iteration)

    def fall_back(self, images: Tensor, maps: Tensor, start: Tensor) -> None:
        """Return to the original wherever no iterate is more dissimilar than it is to itself."""
        self.kept = self.iteration > 0
        self.success = self.kept & (self.dissimilarity > start)
        self.images = torch.where(self.success[:, None, None, None], self.images, images)
        self.maps = torch.where(self.success[:, None, None], self.maps, maps)
        self.dissimilarity = torch.where(self.success, self.dissimilarity, start)
        self.iteration = torch.where(self.success, self.iteration, 0)


def _reasons_not_to_attack(maps: Tensor, labels: Tensor, predicted: Tensor) -> list[str]:
    """Return "" for each image that can be attacked, else the reason why not."""
    empty = maps.sum(dim=(1, 2)) == 0
    return [
        f"predicted as class {got}, not {label}" if got != label else "its map is zero everywhere" if nothing else ""
        for label, got, nothing in zip(labels.tolist(), predicted.tolist(), empty.tolist(), strict=True)
    ]


def random_signs(image: Tensor, seed: int) -> Tensor:
    """Return -1 or 1 for each value of `image`, the same for a seed on any device."""
    generator = torch.Generator().manual_seed(seed)
    bits = torch.randint(0, 2, image.shape, generator=generator, dtype=torch.int8)
    return (2 * bits - 1).to(image)
