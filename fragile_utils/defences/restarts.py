"""Restarts: the best of several runs of any attack, image by image."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from fragile_utils import attacks, saliency
from fragile_utils._base import checks
from fragile_utils.attacks import Attack, MapResult
from fragile_utils.defences.randomness import APART


@dataclass(frozen=True)
class BestResult(MapResult):
    """The best of several results.

    Attributes
    ----------
    chosen : Tensor (N,)
        Which of them each image is from, counted from 0.
    """

    chosen: Tensor = field(repr=False)


def best_of(results: Sequence[MapResult]) -> BestResult:
    """Return, for each image, the result with the largest D of those that succeeded; the first where none did.

    Parameters
    ----------
    results : sequence of MapResult
        Of the same images, labels and method, by the same attack within the same budget: D of another is another
        number. Seeds, steps and starts may differ; the settings of the best are those of the first.

    Raises
    ------
    ValueError
        If there are none, or they are of others.
    """
    if not results:
        raise ValueError("results: expected at least one, got none")
    first = results[0]
    for other in results[1:]:
        same = torch.equal(other.before.images, first.before.images) and torch.equal(other.labels, first.labels)
        if not same or other.method != first.method:
            raise ValueError("results: expected those of the same images and method, got others")
        if _seeded(other.attack, lambda _: 0) != _seeded(first.attack, lambda _: 0):
            raise ValueError(f"results: expected those of one attack, got {first.attack} and {other.attack}")
        if other.settings.eps != first.settings.eps:
            raise ValueError(
                f"results: expected those of one budget, got {first.settings.eps:.4g} and {other.settings.eps:.4g}"
            )
    found = torch.stack([torch.where(r.success, r.after.dissimilarity, -torch.inf) for r in results])
    chosen = found.argmax(dim=0)
    after, reasons = first.after, list(first.reasons)
    iteration, curve = first.iteration, _of_length(first.curve, max(len(r.curve) for r in results))
    for number, result in enumerate(results[1:], start=1):
        here = chosen == number
        after = result.after.where(here, after)
        iteration = torch.where(here, result.iteration, iteration)
        curve = torch.where(here, _of_length(result.curve, len(curve)), curve)
        for i in here.nonzero().flatten().tolist():
            reasons[i] = result.reasons[i]
    values = {name: getattr(first, name) for name in MapResult.__dataclass_fields__}
    values |= {"after": after, "reasons": tuple(reasons), "iteration": iteration, "curve": curve}
    return BestResult(**values, chosen=chosen)


def run_restarts(
    attack: Attack,
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    method: saliency.Method,
    *,
    restarts: int,
    seed: int = 0,
    first: MapResult | None = None,
    **options: Any,
) -> BestResult:
    """Return the best of several runs of any attack: the first from the original, the others from random points.

    Parameters
    ----------
    restarts : int
        How many runs. Run r has the seed ``seed + 100003 r``, and so has an attack with a seed of its own.
    first : MapResult, optional
        What the first of them found, where that is known.
    attack, model, images, labels, method, seed, **options
        As for `attacks.run`, whose errors apply.
    """
    checks.count(restarts, "restarts")
    checks.seed(seed)
    results = [] if first is None else [first]
    if first is not None and first.attack != attack:
        raise ValueError(f"first: expected a result of {attack}, got one of {first.attack}")
    for number in range(len(results), restarts):
        chosen = {"seed": seed + APART * number} | options | ({"random_start": True} if number else {})
        other = _seeded(attack, lambda seed, by=APART * number: seed + by) if number else attack
        results.append(attacks.run(other, model, images, labels, method, **chosen))
    return best_of([replace(result, attack=attack) for result in results])


def _seeded(attack: Attack, seed_of: Callable[[int], int]) -> Attack:
    """Return the attack, and what it climbs, with another seed where it has one."""
    changes: dict[str, Any] = {}
    inner = getattr(attack, "attack", None)
    if isinstance(inner, Attack) and (other := _seeded(inner, seed_of)) is not inner:
        changes["attack"] = other
    if hasattr(attack, "seed"):
        changes["seed"] = seed_of(attack.seed)
    return replace(attack, **changes) if changes else attack


def _of_length(curve: Tensor, length: int) -> Tensor:
    """Return a curve (P, N) with rows of NaN up to this length."""
    return torch.cat([curve, curve.new_full((length - len(curve), curve.shape[1]), torch.nan)])
