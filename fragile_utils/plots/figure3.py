"""The paper's Figure 3 beside our own results: what the attacks do, by method, budget and measure.

All are stored in the package (`data.results`): the paper's values, read off its plots, as ``figure3_paper``; ours as
``figure3_embedded``, with the paper's settings on the embedded images, as ``imagenet`` and as ``cifar10``, of sweeps.
"""

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fragile_utils import data
from fragile_utils.experiments.bootstrap import mean_interval
from fragile_utils.metrics import MEASURES
from fragile_utils.plots.budgets import draw_means, panels_over_budgets
from fragile_utils.plots.maps import BLACK, BLUE, ORANGE, WIDTH

METHODS = {
    "gradient": "gradient",
    "deeplift": "DeepLIFT",
    "integrated-gradients": "integrated gradients",
    "deep-taylor": "deep Taylor",
}
ATTACKS = {"topk": "top-k", "mass-center": "mass-centre", "random-sign": "random signs"}
COLORS = {"topk": BLUE, "mass-center": BLACK, "random-sign": ORANGE}
EMBEDDED, PAPER = "figure3_embedded", "figure3_paper"
READING_ERROR = {"topk_intersection": 0.01, "rank_correlation": 0.01, "center_shift": 1.0}  # of the paper's plots


def compared(measure: str, attack: str, results: str = EMBEDDED, paper: str | None = PAPER) -> pd.DataFrame:
    """Return our means beside the paper's, one row for each method and budget that we have results of.

    Parameters
    ----------
    measure : str
        One of `metrics.MEASURES`.
    attack : str
        One of `ATTACKS`.
    results, paper : str
        Names of what is compared, as for `data.results`; None where the paper has nothing to compare with.

    Returns
    -------
    DataFrame
        Index: ``method``, ``eps`` (in levels of 255). Columns: ``ours``, the mean over the images on which the attack
        succeeded; ``low`` and ``high``, its 95 % bootstrap interval; ``images``, how many they are; ``paper`` (NaN
        where there is nothing) and ``difference``, ours less the paper's.

    Raises
    ------
    ValueError
        If there is no such measure or attack, or there are no such results.
    """
    _one_of(measure, MEASURES, "measure")
    _one_of(attack, ATTACKS, "attack")
    _, runs = data.results(results)
    runs = runs[(runs.attack == attack) & runs.success]
    keys, rows = [], []
    for key, group in runs.groupby(["method", "eps"]):
        mean, low, high = mean_interval(group[measure].to_numpy())
        keys.append(key)
        rows.append({"ours": mean, "low": low, "high": high, "images": len(group)})
    table = pd.DataFrame(rows, index=pd.MultiIndex.from_tuples(keys, names=["method", "eps"]))
    table = table.join(_papers(measure, attack, paper).rename("paper"))
    return table.assign(difference=table.ours - table.paper)


def agreement(results: str = "imagenet", paper: str = PAPER) -> pd.DataFrame:
    """Return whether each mean of the paper comes out again: the one rule that speaks wherever that is asked.

    A mean of ours *agrees* with the paper's when they differ by no more than the error with which the paper's plots
    were read (`READING_ERROR`) plus two standard errors of our mean over the images on which the attack succeeded.

    Parameters
    ----------
    results, paper : str
        Names of what is compared, as for `data.results`.

    Returns
    -------
    DataFrame
        One row for each mean that both have. Columns: ``measure``, ``method``, ``attack``, ``eps`` (in levels of 255),
        ``paper``, ``ours``, ``images``, ``tolerance`` and ``agrees``.
    """
    _, runs = data.results(results)
    _, theirs = data.results(paper)
    keys, tables = ["method", "attack", "eps"], []
    for measure, error in READING_ERROR.items():
        ours = runs[runs.success].groupby(keys)[measure].agg(ours="mean", sem="sem", images="count")
        table = theirs[theirs.measure == measure].set_index(keys)[["value"]].join(ours, how="inner").reset_index()
        table["tolerance"] = error + 2 * table.pop("sem")
        tables.append(table.rename(columns={"value": "paper"}).assign(measure=measure))
    found = pd.concat(tables, ignore_index=True)
    found["agrees"] = (found.ours - found.paper).abs() <= found.tolerance
    return found[["measure", *keys, "paper", "ours", "images", "tolerance", "agrees"]]


def figure(
    measures: Sequence[str], attacks: Sequence[str], results: str = EMBEDDED, paper: str | None = PAPER
) -> Figure:
    """Return a figure with a row for each measure and a column for each method, over the budgets.

    Filled markers with their bootstrap intervals are ours, open markers on dashed lines the paper's; names as for
    `compared`.
    """
    for measure in measures:
        _one_of(measure, MEASURES, "measures")
    _, runs = data.results(results)
    methods = [method for method in METHODS if method in set(runs.method)]
    size, budgets = (WIDTH, 2.3 * len(measures) + 0.5), sorted(set(runs.eps))
    drawn, axes = panels_over_budgets(measures, [METHODS[method] for method in methods], budgets, size)
    for row, measure in zip(axes, measures, strict=True):
        for attack in attacks:
            table, papers = compared(measure, attack, results, paper), _papers(measure, attack, paper)
            for panel, method in zip(row, methods, strict=True):
                ours, theirs = _part(table, method), _part(papers, method)
                means = (ours.index, ours.ours, ours.low, ours.high)
                draw_means(panel, *means, COLORS[attack], ATTACKS[attack])
                panel.plot(theirs.index, theirs, "s--", color=COLORS[attack], markerfacecolor="white")
    handles = axes[0, 0].get_legend_handles_labels()[0]
    if paper is not None:
        handles.append(
            Line2D([], [], color="grey", linestyle="--", marker="s", markerfacecolor="white", label="the paper")
        )
    drawn.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False, fontsize=9)
    return drawn


def _papers(measure: str, attack: str, name: str | None) -> pd.Series:
    _, paper = data.results(PAPER if name is None else name)
    rows = paper[(paper.measure == measure) & (paper.attack == attack)] if name is not None else paper[:0]
    return rows.set_index(["method", "eps"]).value.sort_index()


def _part(table: pd.DataFrame | pd.Series, method: str) -> pd.DataFrame | pd.Series:
    return table[table.index.get_level_values("method") == method].droplevel("method")


def _one_of(given: str, names: dict[str, str], name: str) -> None:
    if given not in names:
        raise ValueError(f"{name}: expected one of {', '.join(names)}, got {given!r}")
