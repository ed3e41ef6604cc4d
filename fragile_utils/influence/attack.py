"""Attacks on explanations by example: other training images become influential, the predicted class does not change.

The paper linearises the summed influence of the three most influential training images around the test image x and
takes one signed step of size eps against it,

    d = -eps sign(grad_x sum_i s(z_i, x)),    s = -I,

with s the helpfulness, positive for an example that supports the prediction (module ``functions`` has the signs). The
loop is that of the attacks on saliency maps, `attacks.climb`.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from fragile_utils._base import checks, precision
from fragile_utils._base.seeds import for_each, random_signs
from fragile_utils.attacks import Outcome, Problem, Result, Settings, confidence, wrong_predictions
from fragile_utils.attacks.algorithm import NO_MAP, NO_MOVE, climb_where_nothing_forbids
from fragile_utils.attacks.base import ascent
from fragile_utils.attacks.maps import check_resolution
from fragile_utils.influence.features import Features, Signed
from fragile_utils.influence.functions import Influence, Side, most, rank_correlation, top_overlap
from fragile_utils.influence.head import check_examples
from fragile_utils.models.door import check_network


@dataclass(frozen=True)
class InfluenceAttack:
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

    def dissimilarity(self, explain: Influence, features: Tensor, labels: Tensor, pull: Tensor) -> Tensor:
        """Return D (T,) of features (T, D); differentiable. `pull` is that of the examples (`Influence.pull`)."""
        total = explain.total(features, labels, pull, self.scale_free)
        return total if self.side == "helpful" else -total

    def schedule(self, eps: float, steps: int, step_size: float | None) -> tuple[int, float]:
        """Return the number of steps and their size."""
        return steps, eps / 4 if step_size is None else step_size


@dataclass(frozen=True)
class Iterated(InfluenceAttack):
    """Signed gradient steps, each followed by projection on the eps-ball and [0, 1]; the best iterate is kept."""


@dataclass(frozen=True)
class GradientSign(InfluenceAttack):
    """The paper's attack: one signed step of size eps."""

    def schedule(self, eps: float, steps: int, step_size: float | None) -> tuple[int, float]:
        return 1, eps


@dataclass(frozen=True)
class RandomSign(InfluenceAttack):
    """The baseline: move each pixel and channel up or down by eps, at random, once. Nothing is climbed."""

    def schedule(self, eps: float, steps: int, step_size: float | None) -> tuple[int, float]:
        return 1, eps


ATTACKS: dict[str, type[InfluenceAttack]] = {
    "gradient-sign": GradientSign,
    "iterated": Iterated,
    "random-sign": RandomSign,
}


@dataclass(frozen=True)
class InfluenceResult(Result):
    """What an attack on influences found; ``explanation`` is the influence of each training example (T, n), float64."""

    @property
    def scores_before(self) -> Tensor:
        """The influence (T, n) of each training example on the originals."""
        return self.before.explanation

    @property
    def scores(self) -> Tensor:
        """The influence (T, n) of each training example on the perturbed images."""
        return self.after.explanation

    def compare(self, n: int = 5) -> pd.DataFrame:
        """Return a table with one row for each image.

        Columns: ``label``, ``label_after``, ``confidence_before``, ``confidence``, ``linf`` (in [0, 1] units),
        ``success``, ``rank_correlation`` of all influences, ``top_overlap``: the share of the `n` most influential
        examples, on the attack's side, that still are.
        """
        measures = {
            "rank_correlation": rank_correlation(self.scores_before, self.scores),
            "top_overlap": top_overlap(self.scores_before, self.scores, n, self.attack.side),
        }
        return self.table("confidence_before", "confidence").join(
            pd.DataFrame({name: values.tolist() for name, values in measures.items()})
        )


@precision.float32()
def run(
    attack: InfluenceAttack,
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
) -> InfluenceResult:
    """Attack the explanation by example of each test image, on a whole batch.

    Parameters
    ----------
    attack : InfluenceAttack
        `GradientSign`, the paper's; `Iterated`; or the baseline `RandomSign`.
    features : Features
        The frozen network: images to features (N, D). Any differentiable module in evaluation mode will do that
        `models.check_network` lets pass.
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
    InfluenceResult
        For each image, of all iterates that are not the original, with the prediction unchanged, the one with the
        largest D.

    Raises
    ------
    ValueError
        If an argument is not as described, or the images are of a type in which eps is lost to rounding.

    References
    ----------
    Ghorbani, Abid, Zou, *Interpretation of Neural Networks is Fragile*, AAAI 2019, section on influence functions.
    """
    checks.instance(attack, InfluenceAttack, "attack", "GradientSign()")
    checks.evaluation_mode(features)
    checks.instance(explain, Influence, "explain", "Influence(head, features, labels)")
    checks.images(images)
    checks.labels(labels, len(images), explain.head.classes, device=images.device)
    eps = checks.budget(eps)
    step_size = None if step_size is None else checks.positive(step_size, "step_size")
    steps, step_size = attack.schedule(eps, checks.count(steps, "steps"), step_size)
    settings = Settings(eps=eps, steps=steps, step_size=step_size, seed=seed)
    check_resolution(images, eps)
    images = images.detach().clamp(0, 1)
    check_network(Signed(features), images)

    with torch.no_grad():
        seen = features(images)
        check_examples(seen, labels, explain.head)
        logits = explain.head(seen)
    scores, predicted = explain(seen, labels), logits.argmax(1)
    pull = explain.pull(most(scores, attack.top, attack.side))
    start = attack.dissimilarity(explain, seen, labels, pull)
    problem = InfluenceProblem(
        images=images,
        labels=labels,
        eps=settings.eps,
        seeds=settings.seeds(len(images)),
        attack=attack,
        features=features,
        explain=explain,
        pull=pull,
    )
    before = Outcome(images, seen, predicted, confidence(logits, labels), start)  # features, until all is over
    reasons = wrong_predictions(labels, predicted)
    found = climb_where_nothing_forbids(problem, before, reasons, settings, progress, must_grow=False)
    after = found["after"]
    done = torch.tensor([not reason for reason in found["reasons"]], device=images.device).nonzero().flatten()
    new = explain(after.explanation[done], labels[done]) if len(done) else scores[:0]
    scores_after = scores.index_copy(0, done, new)
    found["reasons"] = tuple(NO_MOVE if reason == NO_MAP else reason for reason in found["reasons"])  # see `evaluate`
    found |= {"before": replace(before, explanation=scores), "after": replace(after, explanation=scores_after)}
    return InfluenceResult(attack=attack, settings=settings, labels=labels, **found)


@dataclass(frozen=True, kw_only=True)
class InfluenceProblem(Problem):
    """The problem of an attack on influences. While it is climbed, an outcome's explanation is the image's features."""

    attack: InfluenceAttack
    features: Features
    explain: Influence
    pull: Tensor  # of the examples under attack (N, K - 1, D + 1)
    last: list[Any] = field(default_factory=list)  # the pass that looked at an iterate also gives the next direction

    def __getitem__(self, rows: Tensor) -> "InfluenceProblem":
        return replace(super().__getitem__(rows), pull=self.pull[rows], last=[])

    def direction(self, x: Tensor) -> Tensor:
        if isinstance(self.attack, RandomSign):
            return for_each(random_signs, x, self.seeds)
        leaf, _, dissimilarity = self._look(x)
        return ascent(dissimilarity, leaf)

    def evaluate(self, x: Tensor) -> tuple[Outcome, Tensor]:
        _, seen, dissimilarity = self._look(x)
        with torch.no_grad():
            logits = self.explain.head(seen)
        predicted = logits.argmax(1)
        found = Outcome(x, seen.detach(), predicted, confidence(logits, self.labels), dissimilarity.detach())
        moved = (x != self.images).flatten(1).any(dim=1)  # an original that is given back is no success
        return found, (predicted == self.labels) & moved

    def _look(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return `x` as a leaf of a graph, the features (N, D) and D (N,) in it; for the last `x`, what is known."""
        if not self.last or self.last[0] is not x:
            with torch.set_grad_enabled(not isinstance(self.attack, RandomSign)):
                leaf = x.detach().requires_grad_(torch.is_grad_enabled())
                seen = self.features(leaf)
                dissimilarity = self.attack.dissimilarity(self.explain, seen, self.labels, self.pull)
            self.last[:] = [x, leaf, seen, dissimilarity]
        return tuple(self.last[1:])
