"""The results of a sweep, for people: a table as text, a note, and files for the book to quote."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from fragile_utils._base.files import write_bytes
from fragile_utils.experiments.folder import duration
from fragile_utils.metrics import MEASURES


def text(summary: pd.DataFrame) -> str:
    """Return the table of `experiments.summary` as text: "mean [low, high] median" for each measure."""
    values = summary.assign(
        value=[
            f"{row.mean:.3g} [{row.low:.3g}, {row.high:.3g}] {row.median:.3g}" if row.mean == row.mean else "-"
            for row in summary.itertuples()
        ]
    )
    index = [*subject_columns(summary), "method", "attack", "eps", "images", "failures"]
    wide = values.pivot(index=index, columns="measure", values="value")[list(MEASURES)]
    order = values[index].drop_duplicates()
    wide = wide.loc[list(order.itertuples(index=False, name=None))].rename(columns=MEASURES).reset_index()
    wide["eps"] = wide["eps"].map("{:g}".format)
    return wide.to_string(index=False)


def note(settings: dict[str, Any]) -> str:
    """Return what is to be said beside a figure; `settings` as from `results`.

    That is: how many images, how the attacks searched, with which versions, on which hardware, for how long.
    """
    subjects = ", ".join(f"{s['images']} images of {s['data']} ({s['model']})" for s in settings["subjects"])
    done, of = settings["shards"]["done"], settings["shards"]["of"]
    part = "" if done == of else f"; incomplete: {done} of {of} shards"
    torch, seconds = settings["versions"]["torch"], duration(settings["seconds"])
    computed = f"torch {torch} on {settings['hardware']}, {seconds} of computation{part}"
    return "\n".join((subjects, search(settings["sweep"]), computed))


def search(sweep: dict[str, Any]) -> str:
    """Return how the attacks of a sweep searched, in words: steps, their size, and which iterates were measured."""
    every = sweep["measure_every"]
    measured = "every iterate measured" if every == 1 else f"one iterate in {every} measured"
    return f"{sweep['steps']} steps of {sweep['step_size']:g} levels, {measured}"


def collect(settings: dict[str, Any], table: pd.DataFrame, target: Path) -> list[Path]:
    """Write a row for each image to TARGET.csv, the settings to TARGET.json; `data.results` reads such files.

    Parameters
    ----------
    settings, table
        As from `experiments.results`. Of the columns ``model`` and ``data``, those with one value are left out: the
        settings hold it.
    target : path
        Without ending.

    Returns
    -------
    list of path

    Raises
    ------
    ValueError
        If they cannot be written.
    """
    constant = {"model", "data"}.difference(subject_columns(table))
    csv = table.drop(columns=sorted(constant)).to_csv(index=False, float_format="%.6g", lineterminator="\n")
    contents = {".csv": csv, ".json": json.dumps(settings, indent=1) + "\n"}
    paths = [target.with_name(target.name + ending) for ending in contents]
    for path, content in zip(paths, contents.values(), strict=True):
        write_bytes(path, content.encode())
    return paths


def subject_columns(table: pd.DataFrame) -> list[str]:
    """Return those of the columns of network and data set that have several values."""
    return [name for name in ("model", "data") if table[name].nunique() > 1]
