"""Budget to failure: how far an image has to be changed until its explanation is lost.

Curves over budgets say how much is left at each. Where all methods keep everything, or nothing, they cannot be told
apart; the budget at which half is lost can be compared at any strength of an attack.
"""

from numbers import Real

import numpy as np
import pandas as pd

UNCHANGED = {"topk_intersection": 1.0, "rank_correlation": 1.0, "center_shift": 0.0}
IMAGE = ["model", "data", "method", "attack", "index"]


def budget_to_failure(
    table: pd.DataFrame, measure: str = "topk_intersection", level: float = 0.5, prefix: str = ""
) -> pd.Series:
    """Return, for each image under each attack, the smallest budget at which a measure reaches `level`.

    Between two budgets the measure is interpolated linearly, and from no change at all at a budget of 0. Whoever may
    change more can also change less: at each budget the image counts as what it was at the worst of the budgets up to
    there. A budget at which the attack did not succeed changes nothing. The budgets of an attack on a method are those
    that the table has of it, and others of another attack say nothing of it.

    Parameters
    ----------
    table : DataFrame
        One row for each image, method, attack and budget, as `results` returns it. Of its columns ``model`` and
        ``data`` may be missing.
    measure : str
        One of `metrics.MEASURES`.
    level : float
        At which the explanation counts as lost: below 1 for intersection and rank correlation, above 0 pixels for the
        shift.
    prefix : str
        ``"noise_"`` for the noise of each attack's size, in place of the attack.

    Returns
    -------
    Series
        In levels of 255, indexed by what is there of ``model``, ``data``, ``method``, ``attack``, and the image's
        ``index``; infinite where the largest budget does not suffice, and NaN where a budget that other images have
        under this attack is missing, as in results that are partial, or the measure is NaN at all budgets, as the noise
        of random signs: it was never measured. NaN at some of them is no change.

    Raises
    ------
    ValueError
        If there is no such measure or column, success is anything but true or false, an image stands there twice, or
        the level is on the wrong side.
    """
    check_level(measure, level)
    start, column = UNCHANGED[measure], prefix + measure
    for needed in (column, "success", "eps", IMAGE[-1]):
        if needed not in table:
            raise ValueError(f"table: expected a column {needed!r}, got {', '.join(map(str, table.columns))}")
    if (kind := pd.api.types.infer_dtype(table["success"], skipna=False)) not in ("boolean", "empty"):
        raise ValueError(f"table: expected true or false as 'success', got {kind}")
    keys = [key for key in IMAGE if key in table]
    if twice := int(table.duplicated([*keys, "eps"]).sum()):
        raise ValueError(f"table: expected one row for each image, method, attack and budget, got {twice} more")
    lost = (start - table[column]).abs() if start == 0 else start - table[column]
    rows = table.assign(lost=lost.where(table["success"].astype(bool), 0).fillna(0), known=table[column].notna())
    curves = rows.pivot(index=keys, columns="eps", values="lost").sort_index(axis=1)
    known = rows.pivot(index=keys, columns="eps", values="known").eq(True).any(axis=1)
    found = pd.Series(np.nan, curves.index, name="budget")
    for places in curves.reset_index().groupby(keys[:-1], dropna=False).indices.values():
        found.iloc[places] = _of_one_attack(curves.iloc[places], abs(start - level))
    return found.where(known.to_numpy())


def check_level(measure: str, level: float) -> None:
    """Refuse an unknown measure, and a level that no change of it can reach."""
    if measure not in UNCHANGED:
        raise ValueError(f"measure: expected one of {', '.join(UNCHANGED)}, got {measure!r}")
    start = UNCHANGED[measure]
    if not isinstance(level, Real) or not (level < start if start else level > 0):
        raise ValueError(f"level: expected {'below 1' if start else 'above 0'} for {measure}, got {level!r}")


def _of_one_attack(curves: pd.DataFrame, level: float) -> np.ndarray:
    """Return the budgets (N,) at which what was lost (N, B) reaches `level`; NaN where a budget is missing."""
    curves = curves.dropna(axis=1, how="all")  # of other attacks
    budgets = np.concatenate([[0.0], curves.columns.to_numpy(dtype=np.float64)])
    worst = np.maximum.accumulate(curves.to_numpy(), axis=1)  # from a NaN on it is NaN
    worst = np.concatenate([np.zeros((len(worst), 1)), worst], axis=1)
    return np.where(np.isnan(worst[:, -1]), np.nan, _crossing(budgets, worst, level))


def _crossing(budgets: np.ndarray, curves: np.ndarray, level: float) -> np.ndarray:
    """Return where rising curves (N, B), 0 at the first budget, reach `level`; infinite where they do not."""
    above = curves >= level
    after = np.where(above.any(1), above.argmax(1), 1)
    rows = np.arange(len(curves))
    low, high = curves[rows, after - 1], curves[rows, after]
    share = (level - low) / np.where(high > low, high - low, 1)
    return np.where(above.any(1), budgets[after - 1] + share * (budgets[after] - budgets[after - 1]), np.inf)
