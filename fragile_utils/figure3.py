"""The paper's Figure 3 beside our own results: what the attacks do, by method, budget and measure.

Both are stored in the package (`data.results`): the paper's values, read off its plots, as ``figure3_paper``; ours,
with the paper's settings on the embedded images, as ``figure3_embedded``.
"""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fragile_utils import data, plots

METHODS = {"gradient": "gradient", "deeplift": "DeepLIFT", "integrated-gradients": "integrated gradients"}
ATTACKS = {"topk": "top-k", "mass-center": "mass-centre", "random-sign": "random signs"}
COLORS = {"topk": plots.BLUE, "mass-center": plots.BLACK, "random-sign": plots.ORANGE}
MEASURES = {
    "topk_intersection": "top-1,000 intersection",
    "rank_correlation": "rank correlation",
    "center_shift": "centre shift (pixels)",
}
DRAWS = 2000


def compared(measure: str, attack: str) -> pd.DataFrame:
    """Return our means beside the paper's, one row for each method and budget that we have results of.

    Parameters
    ----------
    measure : str
        One of `MEASURES`.
    attack : str
        One of `ATTACKS`.

    Returns
    -------
    DataFrame
        Index: ``method``, ``eps`` (in levels of 255). Columns: ``ours``, the mean over the images on which the attack
        succeeded; ``low`` and ``high``, its 95 % bootstrap interval; ``images``, how many they are; ``paper`` (NaN
        where it could not be read) and ``difference``, ours less the paper's.

    Raises
    ------
    ValueError
        If there is no such measure or attack.
    """
    _one_of(measure, MEASURES, "measure")
    _one_of(attack, ATTACKS, "attack")
    _, runs = data.results("figure3_embedded")
    runs = runs[(runs.attack == attack) & runs.success]
    rows = {key: _mean(group[measure].to_numpy()) for key, group in runs.groupby(["method", "eps"])}
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["ours", "low", "high", "images"])
    table.index = pd.MultiIndex.from_tuples(table.index, names=["method", "eps"])
    table["images"] = table["images"].astype(int)
    table = table.join(_papers(measure, attack).rename("paper"))
    return table.assign(difference=table.ours - table.paper)


def figure(measures: Sequence[str], attacks: Sequence[str]) -> Figure:
    """Return a figure with a row for each measure and a column for each method, over the budgets.

    Filled markers with their bootstrap intervals are ours, open markers on dashed lines the paper's.
    """
    for measure in measures:
        _one_of(measure, MEASURES, "measures")
    size = (plots.WIDTH, 2.3 * len(measures) + 0.5)
    drawn, axes = plt.subplots(
        len(measures), len(METHODS), figsize=size, sharex=True, sharey="row", layout="constrained", squeeze=False
    )
    plt.close(drawn)
    for row, measure in zip(axes, measures, strict=True):
        for attack in attacks:
            table, papers = compared(measure, attack), _papers(measure, attack)
            for panel, method in zip(row, METHODS, strict=True):
                _draw(panel, _part(table, method), _part(papers, method), attack)
        row[0].set_ylabel(MEASURES[measure])
    for panel, title in zip(axes[0], METHODS.values(), strict=True):
        panel.set_title(title, fontsize=10)
    axes[0, -1].legend(frameon=False, fontsize=9)
    drawn.supxlabel("budget (levels of 255)", fontsize=10)
    return drawn


def _papers(measure: str, attack: str) -> pd.Series:
    _, paper = data.results("figure3_paper")
    rows = paper[(paper.measure == measure) & (paper.attack == attack)]
    return rows.set_index(["method", "eps"]).value.sort_index()


def _mean(values: np.ndarray) -> tuple[float, float, float, int]:
    """Return the mean of values (N,), the bounds of its 95 % bootstrap interval, and N."""
    means = np.random.default_rng(0).choice(values, (DRAWS, len(values))).mean(axis=1)
    return values.mean(), *np.quantile(means, [0.025, 0.975]), len(values)


def _part(table: pd.DataFrame | pd.Series, method: str) -> pd.DataFrame | pd.Series:
    return table[table.index.get_level_values("method") == method].droplevel("method")


def _draw(panel: Axes, ours: pd.DataFrame, paper: pd.Series, attack: str) -> None:
    color = COLORS[attack]
    spread = [ours.ours - ours.low, ours.high - ours.ours]
    panel.errorbar(ours.index, ours.ours, spread, fmt="o-", color=color, capsize=3, label=ATTACKS[attack])
    panel.plot(paper.index, paper, "s--", color=color, markerfacecolor="white")
    panel.set_xscale("log", base=2)
    budgets = [1, 2, 4, 8]
    panel.set(xticks=budgets, xticklabels=budgets)
    panel.spines[["top", "right"]].set_visible(False)


def _one_of(given: str, names: dict[str, str], name: str) -> None:
    if given not in names:
        raise ValueError(f"{name}: expected one of {', '.join(names)}, got {given!r}")
