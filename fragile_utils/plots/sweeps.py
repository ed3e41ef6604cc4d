"""The figure of a sweep, in the manner of the paper's Figure 3."""

import pandas as pd
from matplotlib.figure import Figure

from fragile_utils.experiments.report import subject_columns
from fragile_utils.metrics import MEASURES
from fragile_utils.plots.budgets import draw_means, panels_over_budgets
from fragile_utils.plots.figure3 import ATTACKS, COLORS, METHODS
from fragile_utils.plots.maps import GREEN

MORE_COLORS = (GREEN, "#cc79a7", "#d55e00", "#56b4e9")  # Okabe and Ito's, for attacks that Figure 3 does not have


def figure(summary: pd.DataFrame, note: str = "") -> Figure:
    """Return a figure with a row for each measure and a column for each method, over the budgets.

    Markers are means over the images on which the attack succeeded, with their bootstrap intervals. `note`, in small
    letters above it, says on what it was computed.
    """
    columns = list(summary.groupby([*subject_columns(summary), "method"], sort=False))
    titles = ["\n".join((*names[:-1], METHODS.get(names[-1], names[-1]))) for names, _ in columns]
    size = (max(3 * len(columns), 5), 2.6 * len(MEASURES) + 0.7)
    drawn, axes = panels_over_budgets(list(MEASURES), titles, sorted(summary["eps"].unique()), size)
    colors = _colors(list(summary["attack"].unique()))
    for place, (_, column) in enumerate(columns):
        for panel, measure in zip(axes[:, place], MEASURES, strict=True):
            for attack, color in colors.items():
                rows = column[(column.measure == measure) & (column.attack == attack)].sort_values("eps")
                means = (rows["eps"], rows["mean"], rows["low"], rows["high"])
                draw_means(panel, *means, color, ATTACKS.get(attack, attack))
    handles, labels = axes[0, 0].get_legend_handles_labels()
    axes[0, -1].legend(handles, labels, frameon=False, fontsize=9)
    drawn.suptitle(note, fontsize=8, color="0.35")
    return drawn


def _colors(attacks: list[str]) -> dict[str, str]:
    """Return a colour for each attack: those of Figure 3, and others for the rest."""
    others = [attack for attack in attacks if attack not in COLORS]
    return {a: COLORS.get(a) or MORE_COLORS[others.index(a) % len(MORE_COLORS)] for a in attacks}
