"""What an audit's numbers are held against: maps of other images, of shuffled weights, and pixels in a random order."""

import dataclasses
import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from fragile_utils import data, metrics, saliency
from fragile_utils._base import precision
from fragile_utils._base.memory import in_parts
from fragile_utils.attacks.base import finite_maps
from fragile_utils.experiments import _parquet
from fragile_utils.experiments.costs import with_shuffled_weights
from fragile_utils.experiments.deletion import deletion, insertion, random_order
from fragile_utils.experiments.parts import Parts
from fragile_utils.experiments.subject import Subject

AT_ONCE = 8  # images
KINDS = ("other", "shuffled")  # maps of the next image, of the network with its weights shuffled


def follow(parts: Parts, subject: Subject, network: nn.Module, batch: data.Batch, folder: Path) -> pd.DataFrame:
    """Return the controls of all methods, a row for each image; a method whose file is there is not computed again.

    Columns: ``method``, ``index``, ``name``; `metrics.MEASURES` with ``other_`` and ``shuffled_`` before them;
    ``deletion``, ``insertion`` of the map, and the same with ``random_`` before them.
    """
    settings = {"sweep": parts.sweep.to_dict(), "subject": dataclasses.asdict(subject)}
    about = {"sweep": hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()}
    shuffled = None
    found = []
    for number, (label, choice) in enumerate(parts.sweep.labels("methods").items()):
        path = folder / f"{number:02d}.parquet"
        keys = pd.DataFrame({"method": [label] * len(batch), "index": range(len(batch)), "name": list(batch.names)})
        table = _read(path, keys, about)
        if table is None:
            shuffled = with_shuffled_weights(network, parts.sweep.seed) if shuffled is None else shuffled
            table = keys.join(_controls(parts.method(choice), network, shuffled, batch, parts))
            _parquet.write(path, table, about)
        found.append(table)
    return pd.concat(found, ignore_index=True)


def _read(path: Path, keys: pd.DataFrame, about: dict[str, Any]) -> pd.DataFrame | None:
    try:
        table, before = _parquet.read(path, keys)
    except (FileNotFoundError, _parquet.Damaged):
        return None
    return table if before == about else None


def _controls(
    method: saliency.Method, network: nn.Module, shuffled: nn.Module, batch: data.Batch, parts: Parts
) -> pd.DataFrame:
    """Return the rows of a method; images that do not fit into the memory together are taken fewer at a time."""
    tables, _ = in_parts(partial(_rows, method, network, shuffled, batch, parts), 0, len(batch), AT_ONCE)
    return pd.concat(tables, ignore_index=True)


def _rows(
    method: saliency.Method, network: nn.Module, shuffled: nn.Module, batch: data.Batch, parts: Parts, rows: slice
) -> pd.DataFrame:
    part, own = batch[rows], method.among(rows, len(batch))
    maps = _zero_or_finite(own, network, part)
    after = {"shuffled": _maps(own, shuffled, part)}
    if len(batch) > 1:
        after["other"] = _maps_of_next(method, network, batch, rows)
    table = pd.DataFrame(index=range(len(part)))
    for kind in KINDS:
        if after.get(kind) is not None:
            compared = metrics.compare(maps, after[kind], parts.sweep.k).add_prefix(f"{kind}_")
            compared.loc[(after[kind].sum(dim=(1, 2)) == 0).tolist()] = float("nan")  # there is no top in zeros
            table = table.join(compared)
        else:
            table = table.assign(**{f"{kind}_{measure}": float("nan") for measure in metrics.MEASURES})
    seeds = tuple(parts.sweep.seed + rows.start + i for i in range(len(part)))
    for prefix, order in (("", maps), ("random_", random_order(part.images, seeds))):
        for measure in (deletion, insertion):
            values = measure(network, part.images, part.labels, order)
            table[f"{prefix}{measure.__name__}"] = values.double().cpu().numpy()
    return table


def _maps_of_next(method: saliency.Method, network: nn.Module, batch: data.Batch, rows: slice) -> torch.Tensor:
    """Return the maps of the image after each, and of the first after the last."""
    after = slice(rows.start + 1, min(rows.stop + 1, len(batch)))
    pieces = [after, slice(0, 1)] if rows.stop == len(batch) else [after]
    found = [
        _zero_or_finite(method.among(rows, len(batch)), network, batch[rows]) for rows in pieces if len(batch[rows])
    ]
    return torch.cat(found)


def _zero_or_finite(method: saliency.Method, network: nn.Module, part: data.Batch) -> torch.Tensor:
    """Return the maps, zeros where one is not finite: it is left out later, as an empty map is."""
    with precision.float32():
        attributions, _ = method.explain(network, part.images, part.labels)
    return finite_maps(attributions)[0]


def _maps(method: saliency.Method, network: nn.Module, part: data.Batch) -> torch.Tensor | None:
    """Return the maps, or None where a shuffled network does not give numbers."""
    try:
        return method(network, part.images, part.labels)
    except ValueError:
        return None
