"""Attacks on explanations: Algorithm 1 of the paper, and the dissimilarity functions that it climbs.

An attack looks for an image that the eye cannot tell from the original, on which the network predicts the same class,
and whose saliency map I is as different as possible: maximise D(I(x), I(x + d)) subject to |d|_inf <= eps and the same
prediction (Ghorbani, Abid, Zou, *Interpretation of Neural Networks is Fragile*, AAAI 2019, problem 1).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from fragile_utils import checks, metrics, precision, saliency
from fragile_utils.baseline import by_content
from fragile_utils.surrogate import choose_beta, softplus_surrogate

LEVEL = 1 / 255  # one step of an 8-bit pixel, in units of images in [0, 1]
LOOK = 5  # with `patience`, how many steps to take before looking which images are done: a look waits for the device


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
        if not at_random:
            return self.images
        noise = torch.stack([_uniform(image, seed) for image, seed in zip(self.images, self.seeds, strict=True)])
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
    confidence_before, confidence : Tensor (N,)
        The probability of `labels`, on the originals and on `images`.
    surrogate_agrees : Tensor (N,), bool
        Whether the surrogate predicts what the network does on the originals.
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
        D at each iterate; NaN for images that were not attacked, and where an image was done early.
    """

    attack: Attack
    method: saliency.Method
    guide: saliency.Method
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
    confidence_before: Tensor = field(repr=False)
    confidence: Tensor = field(repr=False)
    surrogate_agrees: Tensor = field(repr=False)
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
    guide: saliency.Method | None = None,
    random_start: bool = False,
    patience: int | None = None,
    tf32: bool = False,
    progress: bool | Callable[[int], None] = False,
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
        Sharpness of the surrogate. By default that of the model (`models.Classifier.beta`); for a model that has none,
        the smallest power of two from 1 on with which the surrogate predicts as the network does on 19 of 20 images
        (`surrogate.choose_beta`). `Result.beta` and `Result.surrogate_agrees` say what it was and did.
    guide : Method, optional
        The method that directions are taken from. By default ``method.guide()``: the method itself, but integrated
        gradients with fewer points.
    random_start : bool
        Set out from a random point of the eps-ball instead of the original.
    patience : int, optional
        An image is done when so many iterates in a row brought nothing better. By default all take all steps, as in the
        paper.
    tf32 : bool
        On an NVIDIA GPU, compute in TensorFloat-32: faster, with 10 bits of mantissa. Refused where the first direction
        then has other signs than in float32 on more than 1 % of the pixels.
    progress : bool or callable
        Show a progress bar, or call this with the number of each step that is done. An interrupt (Ctrl-C, or a
        KeyboardInterrupt that the callable raises) ends the loop and returns the best so far.

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
    if patience is not None:
        checks.count(patience, "patience")
    images = images.detach().clamp(0, 1)
    if images.device.type == "cpu":  # where convolutions are up to a half faster in this layout
        images = images.contiguous(memory_format=torch.channels_last)
    if beta is None and not hasattr(model, "beta"):
        beta = choose_beta(model, images)
    surrogate = softplus_surrogate(model, beta)
    surrogate.constant = True
    guide = method.guide() if guide is None else guide

    with precision.float32(tf32):
        attributions, logits = method.explain(model, images, labels)
        checks.labels(labels, len(images), checks.logits(logits, len(images)).shape[1])
        before, predicted = saliency.normalize(attributions), logits.argmax(1)
        with torch.no_grad():
            agrees = surrogate(images).argmax(1) == predicted
        reference = attack.reference(before)
        reasons = _reasons_not_to_attack(before, labels, predicted)
        unperturbed = {
            "images": images,
            "maps": before,
            "dissimilarity": attack.dissimilarity(before, reference),
            "confidence": confidence(logits, labels),
        }

        rows = torch.tensor([i for i, reason in enumerate(reasons) if not reason], dtype=torch.long)
        seeds = tuple(seed + i for i in rows.tolist())
        rows = rows.to(images.device)
        problem = Problem(model, surrogate, method, guide, images[rows], labels[rows], reference[rows], eps, seeds)
        best = _Best({name: value[rows] for name, value in unperturbed.items()})
        x = problem.start(random_start)
        if tf32 and len(rows):
            _check_signs(attack, problem, x)
        curve = _climb(attack, problem, x, best, steps if len(rows) else 0, step_size, patience, progress)
    best.fall_back()
    for i, kept, moved in zip(rows.tolist(), best.kept.tolist(), best.success.tolist(), strict=True):
        reasons[i] = "" if moved else "no iterate moved the map" if kept else "no iterate kept the label"

    found = {name: value.index_copy(0, rows, best.found[name]) for name, value in unperturbed.items()}
    perturbed = found["images"].contiguous()
    return Result(
        attack=attack,
        method=method,
        guide=guide,
        eps=eps,
        steps=steps,
        step_size=step_size,
        seed=seed,
        beta=surrogate.beta,
        images=perturbed,
        maps_before=before,
        maps=found["maps"],
        labels=labels,
        labels_after=predicted,
        confidence_before=unperturbed["confidence"],
        confidence=found["confidence"],
        surrogate_agrees=agrees,
        linf=(perturbed - images).abs().amax(dim=(1, 2, 3)),
        success=torch.zeros_like(labels, dtype=torch.bool).index_copy(0, rows, best.success),
        reasons=tuple(reasons),
        dissimilarity_before=unperturbed["dissimilarity"],
        dissimilarity=found["dissimilarity"],
        iteration=torch.zeros_like(labels).index_copy(0, rows, best.iteration),
        curve=found["dissimilarity"].new_full((len(curve), len(images)), torch.nan).index_copy(1, rows, curve),
    )


def run_budgets(
    attack: Attack,
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    method: saliency.Method,
    *,
    budgets: Sequence[float],
    **options: Any,
) -> list[Result]:
    """Return `run` for each of `budgets`, in units of images in [0, 1]; other arguments and errors as there.

    Each budget starts from the original, as in the paper.
    """
    budgets = [checks.positive(eps, "budgets") for eps in budgets]
    if not budgets:
        raise ValueError("budgets: expected at least one, got none")
    return [run(attack, model, images, labels, method, eps=eps, **options) for eps in budgets]


def _check_signs(attack: Attack, problem: Problem, x: Tensor) -> None:
    """Refuse a precision in which the first direction is not that of float32."""
    found = attack.direction(problem, x)
    with precision.float32():
        agreement = (found == attack.direction(problem, x)).double().mean().item()
    if agreement < 0.99:
        raise ValueError(f"tf32: expected the signs of float32 on at least 99 % of the pixels, got {agreement:.1%}")


def _climb(
    attack: Attack,
    problem: Problem,
    x: Tensor,
    best: "_Best",
    steps: int,
    step_size: float,
    patience: int | None,
    progress: bool | Callable[[int], None],
) -> Tensor:
    """Run Algorithm 1 from `x`, note the best iterates in `best`, and return D at each iterate (P, N)."""
    rows = torch.arange(len(x), device=x.device)  # those that are not done
    curve: list[Tensor] = []
    try:
        for p in tqdm(range(1, steps + 1), desc="attack", unit="step", disable=progress is not True, leave=False):
            x = problem.clip(x + step_size * attack.direction(problem, x))
            maps, logits = problem.evaluate(x)
            dissimilarity = attack.dissimilarity(maps, problem.reference)
            curve.append(torch.full_like(best.start, torch.nan).index_copy_(0, rows, dissimilarity))
            best.update(p, rows, x, maps, dissimilarity, logits, problem.labels)
            if callable(progress):
                progress(p)
            if patience is not None and p % LOOK == 0 and p < steps:
                going = p - best.iteration[rows] < patience
                if not going.all():
                    rows, x, problem = rows[going], x[going], problem[going]
                if not len(rows):
                    break
    except KeyboardInterrupt:
        pass  # the best so far is an answer
    return torch.stack(curve) if curve else best.start.new_empty(0, len(best.start))


class _Best:
    """Of all iterates with the prediction unchanged, the one with the largest D; image by image, on the device."""

    def __init__(self, unperturbed: dict[str, Tensor]) -> None:
        self.unperturbed = unperturbed
        self.start = unperturbed["dissimilarity"]
        self.found = {name: value.clone() for name, value in unperturbed.items()}
        self.found["dissimilarity"].fill_(-torch.inf)
        self.iteration = torch.zeros_like(self.start, dtype=torch.long)

    def update(
        self, p: int, rows: Tensor, x: Tensor, maps: Tensor, dissimilarity: Tensor, logits: Tensor, labels: Tensor
    ) -> None:
        """Keep iterate `p` of the images `rows` where it is the best so far."""
        # A map that vanished, or is not finite, is a failure of the method and no explanation to compare with.
        better = dissimilarity > self.found["dissimilarity"][rows]
        better = better & (logits.argmax(1) == labels) & (maps.sum(dim=(1, 2)) > 0)
        new = {"images": x, "maps": maps, "dissimilarity": dissimilarity, "confidence": confidence(logits, labels)}
        for name, value in new.items():
            kept = self.found[name]
            shape = (-1, *(1,) * (value.ndim - 1))
            kept.index_copy_(0, rows, torch.where(better.view(shape), value, kept[rows]))
        self.iteration.index_copy_(0, rows, torch.where(better, p, self.iteration[rows]))

    def fall_back(self) -> None:
        """Return to the original wherever no iterate is more dissimilar than it is to itself."""
        self.kept = self.iteration > 0
        self.success = self.kept & (self.found["dissimilarity"] > self.start)
        for name, value in self.found.items():
            shape = (-1, *(1,) * (value.ndim - 1))
            self.found[name] = torch.where(self.success.view(shape), value, self.unperturbed[name])
        self.iteration = torch.where(self.success, self.iteration, 0)


def _reasons_not_to_attack(maps: Tensor, labels: Tensor, predicted: Tensor) -> list[str]:
    """Return "" for each image that can be attacked, else the reason why not."""
    empty = maps.sum(dim=(1, 2)) == 0
    return [
        f"predicted as class {got}, not {label}" if got != label else "its map is zero everywhere" if nothing else ""
        for label, got, nothing in zip(labels.tolist(), predicted.tolist(), empty.tolist(), strict=True)
    ]


def _uniform(image: Tensor, seed: int) -> Tensor:
    """Return a number from -1 to 1 for each value of `image`, the same for a seed on any device."""
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.rand(image.shape, generator=generator) - 1).to(image)


# --- Pieces that attacks of every kind share --------------------------------------------------------------------------


def project(x: Tensor, originals: Tensor, eps: float) -> Tensor:
    """Return the nearest images to `x` within eps of `originals` and within [0, 1]."""
    eps = eps - torch.finfo(x.dtype).eps / 2  # so that rounding never leaves the ball
    return x.clamp(originals - eps, originals + eps).clamp_(0, 1)


def confidence(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the probability (N,) of each image's label."""
    return logits.softmax(1).gather(1, labels[:, None]).squeeze(1)


def random_signs(image: Tensor, seed: int) -> Tensor:
    """Return -1 or 1 for each value of `image`, the same for a seed on any device."""
    generator = torch.Generator().manual_seed(seed)
    bits = torch.randint(0, 2, image.shape, generator=generator, dtype=torch.int8)
    return (2 * bits - 1).to(image)
