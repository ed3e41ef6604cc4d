"""One protocol for all defences: who attacks, how hard, what counts, and whether the attack can be believed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from fragile_utils import attacks
from fragile_utils._base import checks, schema
from fragile_utils.attacks import LEVEL, Attack, MapResult, TopK
from fragile_utils.data.batch import Batch, predict
from fragile_utils.defences import Defence, judge
from fragile_utils.defences.defence import Attacker
from fragile_utils.experiments.bootstrap import mean_interval
from fragile_utils.experiments.costs import Price, price
from fragile_utils.experiments.defended_tables import NOISE, WORST, failure_table, sanity_table
from fragile_utils.experiments.failure import UNCHANGED, check_level
from fragile_utils.models.surrogate import beta_of

LARGE = 64 * LEVEL  # a budget that has to win


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a defence is evaluated.

    Parameters
    ----------
    objective : Attack
        What all attackers climb.
    k : int
        Of the top-k intersection.
    budgets : sequence of float
        In units of images in [0, 1].
    steps : int
        Of each attack.
    step_size : float
    measure_every : int
        Of how many iterates one is measured: see `attacks.Settings`.
    restarts : int
        Of the adaptive attack; 1 for none.
    samples : int, optional
        Of the expectation over noise; by default as many as the explanation takes.
    draws : int
        Of the noise held out, with which an attacker who does not know the seed is judged.
    common : bool
        Whether an original and its perturbed image are judged with the same noise.
    more_steps : sequence of int
        The adaptive attack is also run with these numbers of steps, at the middle one of the budgets.
    measure, level
        When an explanation counts as lost: see `budget_to_failure`.
    seed : int
        Of all that is random.
    batch_size : int
        How many images are attacked at a time.
    """

    objective: Attack = TopK(100)  # noqa: RUF009 - a frozen value
    k: int = 100
    budgets: tuple[float, ...] = (0.5 * LEVEL, LEVEL, 2 * LEVEL, 4 * LEVEL, 8 * LEVEL)
    steps: int = 100
    step_size: float = 0.5 * LEVEL
    measure_every: int = 1
    restarts: int = 3
    samples: int | None = None
    draws: int = 8
    common: bool = True
    more_steps: tuple[int, ...] = (10, 30, 100)
    measure: str = "topk_intersection"
    level: float = 0.5
    seed: int = 0
    batch_size: int = 64

    def __post_init__(self) -> None:
        checks.instance(self.objective, Attack, "objective", "TopK(k=100)")
        for name in ("k", "steps", "measure_every", "restarts", "draws", "batch_size"):
            checks.count(getattr(self, name), name)
        if self.samples is not None:
            checks.count(self.samples, "samples")
        for name, check in (("budgets", checks.budget), ("more_steps", checks.count)):
            given = getattr(self, name)
            if not isinstance(given, Iterable) or isinstance(given, str):
                raise ValueError(f"{name}: expected several numbers, got {given!r}")
            values = tuple(sorted(check(value, name) for value in given))
            if len(set(values)) < len(values):
                raise ValueError(f"{name}: expected each once, got {values}")
            object.__setattr__(self, name, values)
        if not self.budgets:
            raise ValueError("budgets: expected at least one, got none")
        checks.positive(self.step_size, "step_size")
        checks.seed(self.seed)
        schema.flag(self.common, "common")
        check_level(self.measure, self.level)


@dataclass(frozen=True)
class Evaluation:
    """What became of a defence.

    Attributes
    ----------
    table : DataFrame
        One row for each image, attacker and budget. Columns: ``method`` (the defence), ``attack`` (the attacker, or
        "worst": of all, with her name in ``by``), ``eps`` (levels of 255), ``index``, ``success`` (a perturbed image of
        the same class was found), ``linf`` and ``rms`` (levels), and those of `defences.judge`, which are those of the
        original without success. `budget_to_failure` takes it.
    failure : DataFrame
        For each attacker: the median budget to failure and its interval over images, in levels of 255; between which
        medians it lies where each measure is off by its Monte Carlo error, all in the same direction; and the share of
        images that no budget fails.
    steps : DataFrame
        One row for each number of steps: the mean of the measure after the adaptive attack, its interval over images,
        and its Monte Carlo error from the noise of the judge: at most the mean of those of the images.
    sanity : DataFrame
        One row for each condition under which an attack can be believed: what was measured, and whether it holds.
    price : Price
    """

    table: pd.DataFrame
    failure: pd.DataFrame
    steps: pd.DataFrame
    sanity: pd.DataFrame
    price: Price


def evaluate_defence(
    defence: Defence, batch: Batch, protocol: Protocol | None = None, test: Batch | None = None
) -> Evaluation:
    """Evaluate a defence by one protocol: per image, the worst of all who attack it.

    These are the attackers of `Defence.attackers`, the adaptive one from several starts ("restarts"), and noise: random
    signs of the whole budget, and of the root mean square of what the adaptive attack added. All are judged on the
    displayed explanation of the defended network. An image whose class changes is no success of its attacker.

    Parameters
    ----------
    defence : Defence
    batch : Batch
        Images that the network gets right.
    protocol : Protocol, optional
    test : Batch, optional
        Images for the price; by default `batch`, on which the accuracy is 1.

    Raises
    ------
    ValueError
        If the network gets an image wrong, or an argument is not as described.

    References
    ----------
    Carlini et al., *On Evaluating Adversarial Robustness*, 2019, arXiv:1902.06705. Tramer, Carlini, Brendel, Madry, *On
    Adaptive Attacks to Adversarial Example Defenses*, NeurIPS 2020, arXiv:2002.08347.
    """
    checks.instance(defence, Defence, "defence", "Defence('softplus', model, SoftplusExplanation(2.0))")
    if wrong := int((predict(defence.model, batch.images) != batch.labels).sum()):
        raise ValueError(f"batch: expected images that the network gets right, got {wrong} others; see Batch.correct")
    protocol = protocol or Protocol()
    court = _Court(defence, batch, protocol)
    table = pd.concat([court.at(eps) for eps in protocol.budgets], ignore_index=True)
    steps, by_image = court.over_steps()
    large = court.adaptive(LARGE, protocol.steps, max(protocol.step_size, 2 * LARGE / protocol.steps))
    when = protocol.measure, protocol.level
    sanity, failure = sanity_table(table, by_image, large, *when), failure_table(table, *when)
    return Evaluation(table, failure, steps, sanity, price(defence.model, defence.method, test or batch))


class _Court:
    """All attackers of one defence, and their judge."""

    def __init__(self, defence: Defence, batch: Batch, protocol: Protocol) -> None:
        self.defence, self.batch, self.protocol = defence, batch, protocol
        self.attackers = defence.attackers(protocol.objective, samples=protocol.samples, seed=protocol.seed)
        known = {id(who.model): beta_of(who.model, batch.images[:256]) for who in self.attackers.values()}
        self.betas = {name: known[id(who.model)] for name, who in self.attackers.items()}

    def at(self, eps: float) -> pd.DataFrame:
        """Return the rows of all attackers at a budget, and of the worst of them."""
        protocol, rows = self.protocol, []
        for part, at in self._parts():
            options = self._options(eps, at)
            attackers = {name: self._cut(who, at) for name, who in self.attackers.items()}
            found: dict[str, MapResult] = {}
            for name, who in self.attackers.items():  # without a defence, two of them are the same
                same = next((found[other] for other in found if self.attackers[other] == who), None)
                found[name] = same or attackers[name].run(part.images, part.labels, **options, beta=self.betas[name])
            adaptive = found["adaptive"]
            if protocol.restarts > 1:
                more = options | {"beta": self.betas["adaptive"], "restarts": protocol.restarts, "first": adaptive}
                adaptive = attackers["adaptive"].run(part.images, part.labels, **more)
                found["restarts"] = adaptive
            perturbed = {name: result.images for name, result in found.items()}
            perturbed |= dict(zip(NOISE, self._noise(adaptive, part, options), strict=True))
            rows += [self._judged(part, images, at, attack=name) for name, images in perturbed.items()]
        table = pd.concat(rows, ignore_index=True).assign(method=self.defence.name, eps=eps / LEVEL)
        return pd.concat([table, self._worst(table)], ignore_index=True)

    def over_steps(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return the curve over the number of steps, and the measure (images, numbers of steps) behind it."""
        protocol = self.protocol
        budget = protocol.budgets[len(protocol.budgets) // 2]
        tables = {count: self.adaptive(budget, count, protocol.step_size) for count in protocol.more_steps}
        by_image = pd.DataFrame({count: table[protocol.measure] for count, table in tables.items()})
        rows = []
        for count, table in tables.items():
            interval = mean_interval(table[protocol.measure].to_numpy())._asdict()
            error = table[f"{protocol.measure}_error"].mean()
            rows.append({"steps": count, "eps": budget / LEVEL} | interval | {"monte_carlo": error})
        return pd.DataFrame(rows), by_image

    def adaptive(self, eps: float, steps: int, step_size: float) -> pd.DataFrame:
        """Return the rows of the adaptive attack alone."""
        rows = []
        for part, at in self._parts():
            options = self._options(eps, at) | {"steps": steps, "step_size": step_size}
            who = self._cut(self.attackers["adaptive"], at)
            result = who.run(part.images, part.labels, **options, beta=self.betas["adaptive"])
            rows.append(self._judged(part, result.images, at, attack="adaptive"))
        return pd.concat(rows, ignore_index=True)

    def _parts(self) -> list[tuple[Batch, slice]]:
        """Return the images, as many as are attacked at a time, and the rows in which they are."""
        size, count = self.protocol.batch_size, len(self.batch)
        parts = [slice(first, min(first + size, count)) for first in range(0, count, size)]
        return [(self.batch[rows], rows) for rows in parts]

    def _cut(self, who: Attacker, rows: slice) -> Attacker:
        """Return an attacker for some of the images."""
        count = len(self.batch)
        return replace(who, attack=who.attack.among(rows, count), method=who.method.among(rows, count))

    def _options(self, eps: float, rows: slice) -> dict[str, Any]:
        protocol = self.protocol
        how = {name: getattr(protocol, name) for name in ("steps", "step_size", "measure_every")}
        return how | {"eps": eps, "seed": protocol.seed + rows.start}

    def _noise(self, found: MapResult, part: Batch, options: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Return images with noise of the whole budget, and of the root mean square of what was found."""
        signs = attacks.RandomSign()
        whole = attacks.run(
            signs, self.defence.model, part.images, part.labels, found.method, **options, beta=self.betas["adaptive"]
        )
        return whole.images, attacks.matched_noise(found, self.defence.model).images

    def _judged(self, part: Batch, images: Tensor, rows: slice, **columns: Any) -> pd.DataFrame:
        """Return what the displayed explanation of perturbed images is; an image of another class is the original."""
        moved = (images != part.images).flatten(1).any(dim=1)
        success = moved & (predict(self.defence.model, images) == part.labels)
        kept = torch.where(success.view(-1, 1, 1, 1), images, part.images)
        change = (kept - part.images).flatten(1)
        method = self.defence.method.among(rows, len(self.batch))
        judging: dict[str, Any] = {"displayed": [method]}
        if self.defence.hides_its_noise:
            judging = {name: getattr(self.protocol, name) for name in ("draws", "seed", "common")}
        table = judge(method, self.defence.model, part.images, kept, part.labels, self.protocol.k, **judging)
        facts = {
            "index": [*range(rows.start, rows.stop)],
            "success": success.tolist(),
            "linf": (change.abs().amax(dim=1) / LEVEL).tolist(),
            "rms": (change.square().mean(dim=1).sqrt() / LEVEL).tolist(),
        }
        return pd.DataFrame(facts).assign(**columns).join(table)

    def _worst(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return, of each image, the row of the attacker who did most, of those who succeeded."""
        measure = self.protocol.measure
        lost = (table[measure] - UNCHANGED[measure]).abs().where(table["success"], -1.0)
        worst = table.loc[lost.groupby(table["index"]).idxmax()]
        return worst.assign(by=worst["attack"], attack=WORST)


def compare_defences(evaluations: Sequence[Evaluation]) -> pd.DataFrame:
    """Return a table with a row for each defence: its budgets to failure, whether the attack is sane, and the price."""
    rows = []
    for found in evaluations:
        by_attack = found.failure.set_index("attack")
        row = {"method": found.table["method"].iloc[0], "sane": bool(found.sanity["holds"].all())}
        for name in ("non-adaptive", WORST):
            row |= {f"{name}: {part}": by_attack.loc[name, part] for part in ("median", "low", "high", "never")}
        rows.append(row | found.price._asdict())
    return pd.DataFrame(rows)
