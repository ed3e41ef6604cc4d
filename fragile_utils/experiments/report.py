"""The results of a sweep, for people: a table, a figure in the manner of Figure 3, and files for the book to quote."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fragile_utils import figure3, shards
from fragile_utils.experiments import MEASURES
from fragile_utils.plan import duration

MORE_COLORS = ("#009e73", "#cc79a7", "#d55e00", "#56b4e9")  # Okabe and Ito's, for attacks that Figure 3 does not have
NAMES = {
    "topk_intersection": "top-k intersection",
    "rank_correlation": "rank correlation",
    "center_shift": "centre shift",
}


def text(summary: pd.DataFrame) -> str:
    """Return the table of `experiments.summary` as text: "mean [low, high] median" for each measure."""
    values = summary.assign(
        value=[
            f"{row.mean:.3g} [{row.low:.3g}, {row.high:.3g}] {row.median:.3g}" if row.mean == row.mean else "-"
            for row in summary.itertuples()
        ]
    )
    index = [*_subject(summary), "method", "attack", "eps", "images", "failures"]
    wide = values.pivot(index=index, columns="measure", values="value")[MEASURES]
    order = values[index].drop_duplicates()
    wide = wide.loc[list(order.itertuples(index=False, name=None))].rename(columns=NAMES).reset_index()
    wide["eps"] = wide["eps"].map("{:g}".format)
    return wide.to_string(index=False)


def figure(summary: pd.DataFrame, note: str = "") -> Figure:
    """Return a figure with a row for each measure and a column for each method, over the budgets.

    Markers are means over the images on which the attack succeeded, with their bootstrap intervals. `note`, in small
    letters above it, says on what it was computed.
    """
    columns = list(summary.groupby([*_subject(summary), "method"], sort=False))
    size = (max(3 * len(columns), 5), 2.6 * len(MEASURES) + 0.7)
    drawn, axes = plt.subplots(
        len(MEASURES), len(columns), figsize=size, sharex=True, sharey="row", layout="constrained", squeeze=False
    )
    plt.close(drawn)
    attacks = list(summary["attack"].unique())
    for place, (names, column) in enumerate(columns):
        axes[0, place].set_title("\n".join((*names[:-1], figure3.METHODS.get(names[-1], names[-1]))), fontsize=10)
        for panel, measure in zip(axes[:, place], MEASURES, strict=True):
            _draw(panel, column[column.measure == measure], attacks)
    for panel, measure in zip(axes[:, 0], MEASURES, strict=True):
        panel.set_ylabel(NAMES[measure] + (" (pixels)" if measure == "center_shift" else ""))
    budgets = sorted(summary["eps"].unique())
    axes[0, 0].set_xscale("log", base=2)
    axes[0, 0].set_xticks(budgets, [f"{eps:g}" for eps in budgets])
    axes[0, 0].minorticks_off()
    handles, labels = axes[0, 0].get_legend_handles_labels()
    axes[0, -1].legend(handles, labels, frameon=False, fontsize=9)
    drawn.supxlabel("budget (levels of 255)", fontsize=10)
    drawn.suptitle(note, fontsize=8, color="0.35")
    return drawn


def note(settings: dict[str, Any]) -> str:
    """Return what is to be said beside a figure: images, versions, hardware, duration; `settings` as from `results`."""
    subjects = ", ".join(f"{s['images']} images of {s['data']} ({s['model']})" for s in settings["subjects"])
    done, of = settings["shards"]["done"], settings["shards"]["of"]
    part = "" if done == of else f"; incomplete: {done} of {of} shards"
    torch, seconds = settings["versions"]["torch"], duration(settings["seconds"])
    return f"{subjects}\ntorch {torch} on {settings['hardware']}, {seconds} of computation{part}"


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
    constant = {"model", "data"}.difference(_subject(table))
    csv = table.drop(columns=sorted(constant)).to_csv(index=False, float_format="%.6g", lineterminator="\n")
    contents = {".csv": csv, ".json": json.dumps(settings, indent=1) + "\n"}
    paths = [target.with_name(target.name + ending) for ending in contents]
    for path, content in zip(paths, contents.values(), strict=True):
        shards.write_bytes(path, content.encode())
    return paths


def _subject(table: pd.DataFrame) -> list[str]:
    """Return those of the columns of network and data set that have several values."""
    return [name for name in ("model", "data") if table[name].nunique() > 1]


def _draw(panel: Axes, rows: pd.DataFrame, attacks: Sequence[str]) -> None:
    others = [attack for attack in attacks if attack not in figure3.COLORS]
    for attack in attacks:
        part = rows[rows.attack == attack].sort_values("eps")
        known = figure3.COLORS.get(attack)
        color = known or MORE_COLORS[others.index(attack) % len(MORE_COLORS)]
        spread = [part["mean"] - part["low"], part["high"] - part["mean"]]
        label = figure3.ATTACKS.get(attack, attack)
        panel.errorbar(part["eps"], part["mean"], spread, fmt="o-", color=color, capsize=3, label=label)
    panel.spines[["top", "right"]].set_visible(False)
