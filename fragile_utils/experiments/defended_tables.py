"""Tables of the evaluation of a defence: budgets to failure, whether the attack can be believed, and differences."""

from typing import Any

import numpy as np
import pandas as pd

from fragile_utils import metrics
from fragile_utils.experiments.bootstrap import mean_interval, median_interval
from fragile_utils.experiments.failure import UNCHANGED, budget_to_failure

WORST = "worst"  # of all attackers
NOISE = ("noise of equal maximum", "noise of equal RMS")


def failure_table(table: pd.DataFrame, measure: str, level: float) -> pd.DataFrame:
    """Return `Evaluation.failure`: for each attacker, at which budgets a measure reaches `level`."""
    values, error = table[measure], table[f"{measure}_error"].fillna(0)
    budgets, *others = (
        budget_to_failure(table.assign(**{measure: moved}), measure, level)
        for moved in (values, values - error, values + error)
    )
    rows = []
    for name, values in budgets.dropna().groupby("attack", sort=False):
        interval = median_interval(values.to_numpy())._asdict()
        low, high = sorted(np.median(other.xs(name, level="attack").dropna()) for other in others)
        monte_carlo = {"monte_carlo_low": low, "monte_carlo_high": high}
        counts = {"never": float(np.isinf(values).mean()), "images": len(values)}
        rows.append({"attack": name} | interval | monte_carlo | counts)
    order = [*table["attack"].unique()]
    return pd.DataFrame(rows).sort_values("attack", key=lambda names: names.map(order.index), ignore_index=True)


def sanity_table(
    table: pd.DataFrame, by_steps: pd.DataFrame, large: pd.DataFrame, measure: str, level: float
) -> pd.DataFrame:
    """Return `Evaluation.sanity`: the conditions under which an attack can be believed, with what was measured.

    Parameters
    ----------
    table : DataFrame
        That of the `Evaluation`.
    by_steps : DataFrame (images, numbers of steps)
        The measure after the adaptive attack.
    large : DataFrame
        The rows of the adaptive attack with a budget that has to win.
    measure, level
        When an explanation counts as lost.
    """
    start = UNCHANGED[measure]

    def lost(values: pd.Series) -> pd.Series:
        return (values - start).abs()

    share = (lost(large[measure]) >= abs(start - level)).mean()
    rows = [_condition("a large budget wins", share, share, share, share >= 0.9)]
    for fewer, more in zip(by_steps.columns, by_steps.columns[1:], strict=False):
        interval = mean_interval((lost(by_steps[more]) - lost(by_steps[fewer])).to_numpy())
        rows.append(_condition(f"{more} steps do no less than {fewer}", *interval, interval.high >= 0))
    largest = table[table["eps"] == table["eps"].max()].set_index("index")
    by_attack = {name: lost(rows_of[measure]) for name, rows_of in largest.groupby("attack")}
    for noise in NOISE:
        interval = mean_interval((by_attack["adaptive"] - by_attack[noise]).sort_index().to_numpy())
        rows.append(_condition(f"the gradient beats {noise}", *interval, interval.low > 0))
    return pd.DataFrame(rows)


def _condition(name: str, mean: float, low: float, high: float, holds: bool) -> dict[str, Any]:
    return {"condition": name, "measured": mean, "low": low, "high": high, "holds": bool(holds)}


def paired_difference(
    table: pd.DataFrame, attack: str = WORST, than: str = "non-adaptive", measure: str = "topk_intersection"
) -> pd.DataFrame:
    """Return, at each budget, how much larger a measure is under one attacker than under another, image by image.

    Parameters
    ----------
    table : DataFrame
        Of an `Evaluation`; or of several, of the same images, where each stands under its ``method``.
    attack, than : str
        The two attackers.
    measure : str
        One of `metrics.MEASURES`.

    Returns
    -------
    DataFrame
        One row for each defence and budget. Columns: ``method``, ``eps``, ``mean`` of the differences, ``low``,
        ``high`` (95 % bootstrap interval).

    Raises
    ------
    ValueError
        If there is no such attacker, or measure.
    """
    if measure not in metrics.MEASURES:
        raise ValueError(f"measure: expected one of {', '.join(metrics.MEASURES)}, got {measure!r}")
    for name in (attack, than):
        if name not in set(table["attack"]):
            raise ValueError(f"attack: expected one of {', '.join(table['attack'].unique())}, got {name!r}")
    values = table.pivot(index=["method", "eps", "index"], columns="attack", values=measure)
    differences = values[attack] - values[than]
    rows = [
        {"method": method, "eps": eps} | mean_interval(group.to_numpy())._asdict()
        for (method, eps), group in differences.groupby(["method", "eps"], sort=False)
    ]
    return pd.DataFrame(rows)
