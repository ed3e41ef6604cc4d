"""How sure a mean over images is: its bootstrap interval."""

from typing import NamedTuple

import numpy as np

DRAWS = 2000


class Interval(NamedTuple):
    """A mean, and the bounds between which it lies in 95 % of the samples that could have been drawn instead."""

    mean: float
    low: float
    high: float


def mean_interval(values: np.ndarray, seed: int = 0) -> Interval:
    """Return the mean of values (N,) and its 95 % percentile-bootstrap interval, from 2,000 draws; NaN for no values.

    References
    ----------
    Efron, Tibshirani, *An Introduction to the Bootstrap*, 1993, section 13.3.
    """
    values = np.asarray(values, dtype=np.float64)
    if not len(values):
        return Interval(np.nan, np.nan, np.nan)
    means = np.random.default_rng(seed).choice(values, (DRAWS, len(values))).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high))
