"""The figure of a sweep, in the manner of the paper's Figure 3."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fragile_utils.experiments.report import subject_columns
from fragile_utils.metrics import MEASURES
from fragile_utils.plots.figure3 import ATTACKS, COLORS, METHODS

MORE_COLORS = ("#009e73", "#cc79a7", "#d55e00", "#56b4e9")  # Okabe and Ito's, for attacks that Figure 3 does not have


def figure(summary: pd.DataFrame, note: str = "") -> Figure:
    """Return a figure with a row for each measure and a column for each method, over the budgets.

    Markers are means over the images on which the attack succeeded, with their bootstrap intervals. `note`, in small
    letters above it, says on what it was computed.
    """
    columns = list(summary.groupby([*subject_columns(summary), "method"], sort=False))
    size = (max(3 * len(columns), 5), 2.6 * len(MEASURES) + 0.7)
    drawn, axes = plt.subplots(
        len(MEASURES), len(columns), figsize=size, sharex=True, sharey="row", layout="constrained", squeeze=False
    )
    plt.close(drawn)
    attacks = list(summary["attack"].unique())
    for place, (names, column) in enumerate(columns):
        axes[0, place].set_title("\n".join((*names[:-1], METHODS.get(names[-1], names[-1]))), fontsize=10)
        for panel, measure in zip(axes[:, place], MEASURES, strict=True):
            _draw(panel, column[column.measure == measure], attacks)
    for panel, measure in zip(axes[:, 0], MEASURES, strict=True):
        panel.set_ylabel(MEASURES[measure])
    budgets = sorted(summary["eps"].unique())
    axes[0, 0].set_xscale("log", base=2)
    axes[0, 0].set_xticks(budgets, [f"{eps:g}" for eps in budgets])
    axes[0, 0].minorticks_off()
    handles, labels = axes[0, 0].get_legend_handles_labels()
    axes[0, -1].legend(handles, labels, frameon=False, fontsize=9)
    drawn.supxlabel("budget (levels of 255)", fontsize=10)
    drawn.suptitle(note, fontsize=8, color="0.35")
    return drawn


def _draw(panel: Axes, rows: pd.DataFrame, attacks: Sequence[str]) -> None:
    others = [attack for attack in attacks if attack not in COLORS]
    for attack in attacks:
        part = rows[rows.attack == attack].sort_values("eps")
        known = COLORS.get(attack)
        color = known or MORE_COLORS[others.index(attack) % len(MORE_COLORS)]
        spread = [part["mean"] - part["low"], part["high"] - part["mean"]]
        label = ATTACKS.get(attack, attack)
        panel.errorbar(part["eps"], part["mean"], spread, fmt="o-", color=color, capsize=3, label=label)
    panel.spines[["top", "right"]].set_visible(False)
