"""The computation of one shard of a sweep: attacks in batches that fit into the memory, and a row for each image."""

import dataclasses
import math
import time
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import pandas as pd
from torch import nn

from fragile_utils import attacks, data, metrics
from fragile_utils._base.devices import environment, pick_device
from fragile_utils._base.memory import in_parts
from fragile_utils.experiments.choice import Choice
from fragile_utils.experiments.folder import Shard
from fragile_utils.experiments.parts import Parts
from fragile_utils.experiments.subject import Subject
from fragile_utils.metrics import MEASURES


def compute(
    parts: Parts, subject: Subject, shard: Shard, batch_size: int, device: str
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Attack the images of a shard. Return a row for each, and what is known about the computation.

    A batch that does not fit into the memory is halved, for this method from then on.
    """
    began = time.perf_counter()
    loaded = _loaded(parts, subject, str(pick_device(device)))
    size = min(loaded.batch_sizes.get(shard.method, batch_size), batch_size)
    tables, halved = in_parts(partial(_attack, parts, subject, shard, loaded), shard.first, shard.last, size)
    if halved:
        size = loaded.batch_sizes[shard.method] = halved[-1]
    notes = [f"{shard.cell.method}: out of memory; from here on {fewer} images at a time" for fewer in halved]
    about = {"seconds": time.perf_counter() - began, "batch_size": size, "notes": notes}
    return pd.concat(tables, ignore_index=True), about | environment(loaded.batch.images.device)


def _attack(parts: Parts, subject: Subject, shard: Shard, loaded: "_Loaded", rows: slice) -> pd.DataFrame:
    sweep, part = parts.sweep, loaded.batch[rows]
    result = attacks.run(
        parts.attack(shard.attack, part.images),
        loaded.model,
        part.images,
        part.labels,
        parts.method(shard.method).among(rows, len(loaded.batch)),
        eps=shard.cell.eps * attacks.LEVEL,
        **sweep.search(rows.start, subject.beta),
    )
    table = result.compare(sweep.k).drop(columns=["label", "label_after", "linf", "success"])
    cell = {name: [value] * len(part) for name, value in dataclasses.asdict(shard.cell).items()}
    outcome = {
        "index": list(range(rows.start, rows.stop)),
        "name": list(part.names),
        "label": result.labels.tolist(),
        "success": result.success.tolist(),
        "reason": list(result.reasons),
        "iteration": result.iteration.tolist(),
        "label_after": result.labels_after.tolist(),
        "linf": (result.linf / attacks.LEVEL).tolist(),
        "rms": (result.rms / attacks.LEVEL).tolist(),
        "surrogate_agrees": result.surrogate_agrees.tolist(),
    }
    for name in ("confidence_before", "confidence", "dissimilarity_before", "dissimilarity"):
        outcome[name] = getattr(result, name).tolist()
    table = table.join(_noise(result, loaded.model, sweep.k))
    return pd.DataFrame(cell | outcome).join(table)


def _noise(result: attacks.MapResult, model: nn.Module, k: int) -> pd.DataFrame:
    """Return the measures of noise of each attack's rms; NaN where it changes the label, or is the attack itself."""
    if isinstance(result.attack, attacks.RandomSign):
        return pd.DataFrame(math.nan, range(len(result.labels)), [f"noise_{name}" for name in MEASURES])
    noise = attacks.matched_noise(result, model)
    table = metrics.compare(result.maps_before, noise.explanation, k)
    table[(noise.labels != result.labels).cpu().numpy()] = math.nan
    return table.add_prefix("noise_")


@dataclass(frozen=True)
class _Loaded:
    """A subject in the memory of this process, and the batches that fit beside it, by method."""

    model: nn.Module
    batch: data.Batch
    batch_sizes: dict[Choice, int]


@lru_cache(maxsize=1)
def _loaded(parts: Parts, subject: Subject, device: str) -> _Loaded:
    return _Loaded(*subject.load(parts, device), {})
