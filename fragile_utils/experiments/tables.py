"""The results of a sweep as tables."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from fragile_utils.experiments.bootstrap import mean_interval
from fragile_utils.experiments.folder import Status, SweepFolder
from fragile_utils.experiments.sweep import MAX_CELLS, Cell
from fragile_utils.metrics import MEASURES

CELL = [field.name for field in dataclasses.fields(Cell)]


def status(folder: str | Path, *, max_cells: int = MAX_CELLS) -> Status:
    """Return how far the sweep in a folder is. Every file is read and checked, and nothing that it names is called."""
    return SweepFolder.load(folder, max_cells).look()[0]


def results(
    folder: str | Path, *, partial: bool = False, max_cells: int = MAX_CELLS
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Return the results of a sweep.

    Parameters
    ----------
    folder : path
    partial : bool
        Be content with the shards that are finished and whole.
    max_cells : int
        How many cells and shards the sweep may have.

    Returns
    -------
    settings : dict
        The sweep, and what is to be shown beside its figures: images, versions, hardware, seconds.
    table : DataFrame
        One row for each image in each cell of the grid. Columns: those of `sweep.Cell`, ``index`` and ``name`` of
        the image, what became of it (``linf`` and ``rms`` in levels of 255), `metrics.MEASURES`, and the same with
        ``noise_`` before them, of noise of the attack's rms (`attacks.matched_noise`; NaN where it changes the label).
        The measures of an image on which the attack did not succeed are those of the original. The index counts the
        images of this sweep: pair the tables of two sweeps by ``name``.

    Raises
    ------
    ValueError
        If the folder is not that of a sweep; without `partial`, if shards are missing or damaged.
    """
    state, tables = SweepFolder.load(folder, max_cells).look()
    if not tables or (state.to_do and not partial):
        raise ValueError(f"{folder}: {state.describe()}; run the sweep again to complete it")
    return facts(state), pd.concat(tables, ignore_index=True)


def facts(state: Status) -> dict[str, Any]:
    """Return what is to be known of a sweep's results, as JSON can hold it."""
    plan, abouts = state.plan, state.done.values()
    return {
        "about": plan.sweep.about,
        "sweep": {name: value for name, value in plan.sweep.to_dict().items() if name != "about"},
        "subjects": [
            {"model": s.model, "data": s.data, "read": s.read, "right": s.right, "images": len(s), "beta": s.beta}
            for s in plan.subjects
        ],
        "shards": {"done": len(state.done), "of": len(plan.shards), "images": plan.shard_size},
        "sha256": plan.digest,
        "versions": {
            name: _distinct(about["versions"][name] for about in abouts) for name in ("fragile_utils", "torch")
        },
        "hardware": _distinct(about["hardware"] for about in abouts),
        "seconds": round(state.seconds),
        "finished": max(about["finished"] for about in abouts),
    }


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return what the attacks did in each cell of the grid.

    Returns
    -------
    DataFrame
        One row for each cell and measure. Columns: those of `sweep.Cell`, ``measure``, ``images`` and ``failures`` (how
        many were attacked, and on how many the attack did not succeed), ``mean``, ``low``, ``high`` (95 % bootstrap
        interval of the mean) and ``median``, over the images on which it succeeded; NaN where there are none.
    """
    rows = []
    for cell, group in table.groupby(CELL, sort=False):
        succeeded = group[group["success"]]
        for measure in MEASURES:
            values = succeeded[measure].dropna()
            counts = {"measure": measure, "images": len(group), "failures": len(group) - len(succeeded)}
            rows.append(
                dict(zip(CELL, cell, strict=True))
                | counts
                | mean_interval(values.to_numpy())._asdict()
                | {"median": values.median()}
            )
    return pd.DataFrame(rows)


def _distinct(values: Iterable[str]) -> str:
    return ", ".join(sorted(set(values)))
