"""Figures over budgets: a row of panels for each measure, a column for each method; means with their intervals."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fragile_utils.metrics import MEASURES

SHORT = {0.25: "¼", 0.5: "½"}  # so that they do not touch


def panels_over_budgets(
    measures: Sequence[str], titles: Sequence[str], budgets: Sequence[float], size: tuple[float, float]
) -> tuple[Figure, np.ndarray]:
    """Return a figure of empty panels, and these (measures, titles), on one logarithmic axis of budgets.

    Parameters
    ----------
    measures : sequence of str
        Keys of `metrics.MEASURES`, one for each row.
    titles : sequence of str
        One for each column.
    budgets : sequence of float
        In levels of 255.
    size : tuple of float
        Width and height, in inches.
    """
    figure, axes = plt.subplots(
        len(measures), len(titles), figsize=size, sharex=True, sharey="row", layout="constrained", squeeze=False
    )
    plt.close(figure)
    for panel, title in zip(axes[0], titles, strict=True):
        panel.set_title(title, fontsize=10)
    for panel, measure in zip(axes[:, 0], measures, strict=True):
        panel.set_ylabel(MEASURES[measure])
    for panel in axes.flat:
        panel.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set_xscale("log", base=2)
    axes[0, 0].set_xticks(budgets, [SHORT.get(eps, f"{eps:g}") for eps in budgets])
    axes[0, 0].minorticks_off()
    figure.supxlabel("budget (levels of 255)", fontsize=10)
    return figure, axes


def draw_means(
    panel: Axes, budgets: Sequence[float], mean: np.ndarray, low: np.ndarray, high: np.ndarray, color: str, label: str
) -> None:
    """Draw means (B,) over budgets (B,), with their intervals from `low` to `high`."""
    spread = [mean - low, high - mean]
    panel.errorbar(budgets, mean, spread, fmt="o-", color=color, capsize=3, label=label)
