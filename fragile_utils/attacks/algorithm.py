"""Algorithm 1 of the paper, for any explanation: climb D, stay in the ball, keep the best image of the same label."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from fragile_utils.attacks.base import Problem
from fragile_utils.attacks.result import Outcome
from fragile_utils.attacks.settings import Settings

CHECK_EVERY = 5  # with `patience`, how many steps lie between checks of which images are done: each stops the device

NOT_MEASURED = "interrupted before an iterate was measured"
NO_LABEL = "no iterate kept the label"
NO_MAP = "no iterate with the label had a map"
EMPTY_MAP = "its map is zero everywhere"
NOT_FINITE = "its map is not finite"
NO_MOVE = "no iterate moved the explanation"
NO_DIRECTION = "no direction: to first order the explanation does not change with the image, as on a linear network"


def climb(problem: Problem, settings: Settings, best: "Best", progress: bool | Callable[[int], None]) -> Tensor:
    """Run Algorithm 1 and return D at each iterate (P, N); `best` holds what it found.

    x <- clip(x + a sign(grad_x D)), P times. Of all iterates with the prediction unchanged, the one with the largest D
    is kept. An interrupt (Ctrl-C, or a KeyboardInterrupt that `progress` raises) ends the loop.

    References
    ----------
    Ghorbani, Abid, Zou, *Interpretation of Neural Networks is Fragile*, AAAI 2019, Algorithm 1.
    """
    x = problem.start(settings.random_start)
    rows = torch.arange(len(x), device=x.device)  # of the images that are not done
    steps = settings.steps if len(x) else 0
    curve: list[Tensor] = []
    try:
        for p in tqdm(range(1, steps + 1), desc="attack", unit="step", disable=progress is not True, leave=False):
            direction = problem.direction(x)
            if p == 1:
                best.directed = (direction != 0).flatten(1).any(dim=1)
            x = problem.clip(x + settings.step_size * direction)
            measured = torch.full_like(best.before.dissimilarity, torch.nan)
            if p % settings.measure_every == 0 or p == steps:
                found, allowed = problem.evaluate(x)
                measured.index_copy_(0, rows, found.dissimilarity)
                best.update(p, rows, found, allowed)
            curve.append(measured)
            if callable(progress):
                progress(p)
            if settings.patience is not None and p % CHECK_EVERY == 0 and p < steps:
                last = p - p % settings.measure_every  # that was measured: of those since then nothing is known
                going = last - best.iteration[rows] < settings.patience
                if not going.all():
                    rows, x, problem = rows[going], x[going], problem[going]
                if not len(rows):
                    break
    except KeyboardInterrupt:
        pass  # what was found until then is an answer
    return torch.stack(curve) if curve else best.before.dissimilarity.new_empty(0, len(best.before))


def climb_where_nothing_forbids(
    problem: Problem,
    before: Outcome,
    reasons: Sequence[str],
    settings: Settings,
    progress: bool | Callable[[int], None],
    must_grow: bool = True,
) -> dict[str, Any]:
    """Run `climb` on the images without a reason against it, and return what a `Result` says of all of them.

    Parameters
    ----------
    problem, before
        Of all N images.
    reasons : sequence of str
        "" for each image that can be attacked, else why it cannot.
    settings, progress
        As for `climb`.
    must_grow : bool
        Whether an attack succeeds only where D is larger than at the original.

    Returns
    -------
    dict
        ``before``, ``after``, ``reasons``, ``iteration`` and ``curve``.
    """
    free = torch.tensor([not reason for reason in reasons], dtype=torch.bool, device=before.images.device)
    rows, reasons = free.nonzero().flatten(), list(reasons)
    best = Best(before[rows])
    curve = climb(problem[free], settings, best, progress)
    found = best.reasons(must_grow)
    for i, reason in zip(rows.tolist(), found, strict=True):
        reasons[i] = reason
    success = torch.tensor([not reason for reason in found], dtype=torch.bool, device=rows.device)
    after = before.put(rows, best.outcome(success))
    return {
        "before": before,
        "after": replace(after, images=after.images.contiguous()),
        "reasons": tuple(reasons),
        "iteration": torch.zeros_like(before.labels).index_copy(0, rows, best.iteration),
        "curve": curve.new_full((len(curve), len(before)), torch.nan).index_copy(1, rows, curve),
    }


class Best:
    """Of all iterates that are allowed, the one with the largest D; image by image, on the device.

    Parameters
    ----------
    before : Outcome
        Of the original images.

    Attributes
    ----------
    found : Outcome
        Of the best iterates. Where there was none yet, D is minus infinity and the rest is the original's.
    iteration : Tensor (N,)
        Which iterate it is, counted from 1; 0 where there was none.
    measured : Tensor (N,), bool
        Whether there was an iterate.
    labelled : Tensor (N,), bool
        Whether an iterate kept the label, allowed or not.
    directed : Tensor (N,), bool
        Whether the first direction was other than zero.
    """

    def __init__(self, before: Outcome) -> None:
        self.before = before
        lowest = torch.full_like(before.dissimilarity, -torch.inf)
        self.found = Outcome(before.images, before.explanation, before.labels, before.confidence, lowest)
        self.iteration = torch.zeros_like(before.labels)
        self.measured, self.labelled = torch.zeros(
            2, *before.labels.shape, dtype=torch.bool, device=before.labels.device
        )
        self.directed = torch.ones_like(self.labelled)

    @torch.no_grad()
    def update(self, p: int, rows: Tensor, new: Outcome, allowed: Tensor) -> None:
        """Keep iterate `p` of the images `rows` where it is `allowed` and the best so far."""
        self.measured = self.measured.index_fill(0, rows, True)
        self.labelled = self.labelled.index_put((rows,), self.labelled[rows] | (new.labels == self.before.labels[rows]))
        kept = self.found[rows]
        better = allowed & (new.dissimilarity > kept.dissimilarity)
        self.found = self.found.put(rows, new.where(better, kept))
        self.iteration = self.iteration.index_copy(0, rows, torch.where(better, p, self.iteration[rows]))

    def reasons(self, must_grow: bool) -> list[str]:
        """Return "" for each image on which the attack succeeded, else why it did not.

        It did if an iterate kept the label and, where D `must_grow`, raised D above that of the original.
        """
        moved = self.found.dissimilarity > self.before.dissimilarity if must_grow else self.iteration > 0
        known = (self.measured, self.labelled, self.iteration > 0, moved, self.directed)
        return [_reason(*of_image) for of_image in zip(*(values.tolist() for values in known), strict=True)]

    def outcome(self, success: Tensor) -> Outcome:
        """Return what was found for the images where there was `success` (N,), and the originals for the others."""
        self.iteration = torch.where(success, self.iteration, 0)
        return self.found.where(success, self.before)


def _reason(measured: bool, labelled: bool, kept: bool, moved: bool, directed: bool) -> str:
    if not kept:
        return NO_MAP if labelled else NO_LABEL if measured else NOT_MEASURED
    return "" if moved else NO_MOVE if directed else NO_DIRECTION
