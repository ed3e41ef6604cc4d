"""Attacks on explanations by example: other training images become influential, the predicted class does not change.

The paper linearises the summed influence of the three most influential training images around the test image x and
takes one signed step of size eps against it,

    d = -eps sign(grad_x sum_i s(z_i, x)),    s = -I,

with s the helpfulness, positive for an example that supports the prediction (`influence.functions` has the signs).
"""

from dataclasses import dataclass, field

import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from fragile_utils._base import checks, precision
from fragile_utils._base.seeds import random_signs
from fragile_utils.attacks.iterates import Best, attackable, confidence, project, wrong_predictions
from fragile_utils.influence.functions import Influence, Side, most, rank_correlation, top_overlap
from fragile_utils.influence.head import Features


@dataclass(frozen=True)
class Attack:
    """What distinguishes one attack from another.

    Each records D, what it climbs: by how much the influence of the `top` most influential examples of the original has
    been turned against the role that they had. For `side` "helpful", D is their summed influence, which starts out
    negative; for "harmful", minus that.

    Parameters
    ----------
    top : int
        How many of the most influential training examples are attacked (the paper: 3).
    side : {"helpful", "harmful"}
        Which examples are the most influential: those that support the prediction, or those that oppose it.
    scale_free : bool
        Divide D by the factor that all influences share, see `Influence.total`. Without this, part of the budget goes
        into making the prediction more confident, which shrinks all influences alike and reorders none.
    """

    top: int = 3
    side: Side = "helpful"
    scale_free: bool = False

    def __post_init__(self) -> None:
        checks.count(self.top, "top")
        if self.side not in ("helpful", "harmful"):
            raise ValueError(f"side: expected 'helpful' or 'harmful', got {self.side!r}")

    def schedule(self, eps: float, steps: int, step_size: float | None) -> tuple[int, float]:
        """Return the number of steps and their size."""
        return steps, eps / 4 if step_size is None else step_size


@dataclass(frozen=True)
class Iterated(Attack):
    """Signed gradient steps, each followed by projection on the eps-ball and [0, 1]; the best iterate is kept."""


@dataclass(frozen=True)
class GradientSign(Attack):
    """The paper's attack: one signed step of size eps."""

    def schedule(self, eps: float, steps: int, step_size: float | None) -> tuple[int, float]:
        return 1, eps


@dataclass(frozen=True)
class RandomSign(Attack):
    """The baseline: move each pixel and channel up or down by eps, at random, once. Nothing is climbed."""

    def schedule(self, eps: float, steps: int, step_size: float | None) -> tuple[int, float]:
        return 1, eps


ATTACKS: dict[str, type[Attack]] = {"gradient-sign": GradientSign, "iterated": Iterated, "random-sign": RandomSign}


@dataclass(frozen=True)
class Result:
    """What an attack found, image by image.

    Attributes
    ----------
    images : Tensor (T, 3, H, W)
        The perturbed images; the original where the attack did not succeed.
    scores_before, scores : Tensor (T, n)
        The influence of each training example, before and after (float64).
    labels, labels_after : Tensor (T,)
        The class, and the prediction on `images`. They differ only on an image that the model gets wrong to begin with,
        which is not attacked.
    confidence_before, confidence : Tensor (T,)
        The probability that the head gives to the class.
    linf : Tensor (T,)
        The largest change of any pixel, in units of images in [0, 1].
    success : Tensor (T,), bool
        Whether some iterate kept the label.
    reasons : tuple of str
        "" where the attack succeeded, else why it did not.
    dissimilarity_before, dissimilarity : Tensor (T,)
        D at the originals and at `images`; see `Attack`.
    iteration : Tensor (T,)
        Which iterate was kept, counted from 1; 0 for the original.
    """

    attack: Attack
    eps: float
    steps: int
    step_size: float
    seed: int
    images: Tensor = field(repr=False)
    scores_before: Tensor = field(repr=False)
    scores: Tensor = field(repr=False)
    labels: Tensor = field(repr=False)
    labels_after: Tensor = field(repr=False)
    confidence_before: Tensor = field(repr=False)
    confidence: Tensor = field(repr=False)
    linf: Tensor = field(repr=False)
    success: Tensor = field(repr=False)
    reasons: tuple[str, ...] = field(repr=False)
    dissimilarity_before: Tensor = field(repr=False)
    dissimilarity: Tensor = field(repr=False)
    iteration: Tensor = field(repr=False)

    def compare(self, n: int = 5) -> pd.DataFrame:
        """Return a table with one row for each image.

        Columns: ``label``, ``label_after``, ``confidence_before``, ``confidence``, ``linf`` (in [0, 1] units),
        ``success``, ``rank_correlation`` of all influences, ``top_overlap``: the share of the `n` most influential
        examples, on the attack's side, that still are.
        """
        columns = {
            "label": self.labels,
            "label_after": self.labels_after,
            "confidence_before": self.confidence_before,
            "confidence": self.confidence,
            "linf": self.linf,
            "success": self.success,
            "rank_correlation": rank_correlation(self.scores_before, self.scores),
            "top_overlap": top_overlap(self.scores_before, self.scores, n, self.attack.side),
        }
        return pd.DataFrame({name: values.tolist() for name, values in columns.items()})


@precision.float32()
def run(
    attack: Attack,
    features: Features,
    explain: Influence,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    steps: int = 10,
    step_size: float | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Result:
    """Attack the explanation by example of each test image, on a whole batch.

    Parameters
    ----------
    attack : Attack
        `GradientSign`, the paper's; `Iterated`; or the baseline `RandomSign`.
    features : Features
        The frozen network: images to features. Any differentiable module in evaluation mode will do.
    explain : Influence
        The influence of the training examples, with its head.
    images : Tensor (T, 3, H, W)
        In [0, 1].
    labels : Tensor (T,)
        Their classes. An image on which the head predicts another is not attacked, and reported as such.
    eps : float
        The largest allowed change of a pixel, in units of images in [0, 1]: ``8 / 255``.
    steps, step_size : int, float
        Of `Iterated`; the step size is eps / 4 by default.
    seed : int
        Image i draws what is random from ``seed + i`` alone, the same on any device and in any batch.
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
    Ghorbani, Abid, Zou, *Interpretation of Neural Networks is Fragile*, AAAI 2019, section on influence functions.
    """
    checks.instance(attack, Attack, "attack", "GradientSign()")
    checks.evaluation_mode(features)
    checks.images(images)
    checks.labels(labels, len(images), explain.head.classes, device=images.device)
    eps, seed = checks.budget(eps), checks.seed(seed)
    step_size = None if step_size is None else checks.positive(step_size, "step_size")
    steps, step_size = attack.schedule(eps, checks.count(steps, "steps"), step_size)
    images = images.detach().clamp(0, 1)

    with torch.no_grad():
        before = features(images)
        logits = explain.head(before)
    scores = explain(before, labels)
    pull = explain.pull(most(scores, attack.top, attack.side))
    start = _dissimilarity(attack, explain, before, labels, pull)
    reasons = wrong_predictions(labels, logits.argmax(1))
    rows = attackable(reasons, images.device)
    seeds = [seed + i for i in rows.tolist()]
    best = Best({"images": images[rows], "features": before[rows], "dissimilarity": start[rows]})
    if len(rows):
        _climb(attack, features, explain, labels[rows], pull[rows], seeds, eps, steps, step_size, best, progress)
    kept = best.iteration > 0
    for i, same_label in zip(rows.tolist(), kept.tolist(), strict=True):
        reasons[i] = "" if same_label else "no iterate kept the label"

    done = rows[kept]
    found = {name: value[kept] for name, value in best.found.items()}
    perturbed = images.index_copy(0, done, found["images"])
    with torch.no_grad():
        logits_after = logits.index_copy(0, done, explain.head(found["features"]))
    after = explain(found["features"], labels[done]) if len(done) else scores[:0]
    return Result(
        attack=attack,
        eps=eps,
        steps=steps,
        step_size=step_size,
        seed=seed,
        images=perturbed,
        scores_before=scores,
        scores=scores.index_copy(0, done, after),
        labels=labels,
        labels_after=logits_after.argmax(1),
        confidence_before=confidence(logits, labels),
        confidence=confidence(logits_after, labels),
        linf=(perturbed - images).abs().amax(dim=(1, 2, 3)),
        success=torch.zeros_like(labels, dtype=torch.bool).index_fill(0, done, True),
        reasons=tuple(reasons),
        dissimilarity_before=start,
        dissimilarity=start.index_copy(0, done, found["dissimilarity"]),
        iteration=torch.zeros_like(labels).index_copy(0, rows, best.iteration),
    )


def _climb(
    attack: Attack,
    features: Features,
    explain: Influence,
    labels: Tensor,
    pull: Tensor,
    seeds: list[int],
    eps: float,
    steps: int,
    step_size: float,
    best: Best,
    progress: bool,
) -> None:
    """Take the steps and note the best in `best`; the pass that looks at an iterate also gives the next direction."""
    random = isinstance(attack, RandomSign)
    x = images = best.originals["images"]
    rows = torch.arange(len(x), device=x.device)
    try:
        for p in tqdm(range(steps + 1), desc="attack", unit="step", disable=not progress, leave=False):
            climbing = p < steps and not random
            x = x.detach().requires_grad_(climbing)
            with torch.set_grad_enabled(climbing):
                seen = features(x)
                dissimilarity = _dissimilarity(attack, explain, seen, labels, pull)
            if p > 0:
                new = {"images": x, "features": seen, "dissimilarity": dissimilarity}
                best.update(p, rows, new, allowed=explain.head(seen).argmax(1) == labels)
            if p == steps:
                break
            if climbing:
                (direction,) = torch.autograd.grad(dissimilarity.sum(), x)
                direction = direction.sign()
            else:
                direction = torch.stack([random_signs(image, s) for image, s in zip(x, seeds, strict=True)])
            x = project(x.detach() + step_size * direction, images, eps)
    except KeyboardInterrupt:
        pass  # the best so far is an answer


def _dissimilarity(attack: Attack, explain: Influence, seen: Tensor, labels: Tensor, pull: Tensor) -> Tensor:
    total = explain.total(seen, labels, pull, attack.scale_free)
    return total if attack.side == "helpful" else -total
