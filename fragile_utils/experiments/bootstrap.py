"""How sure a mean or a median over images is: its bootstrap interval."""

from typing import NamedTuple

import numpy as np

DRAWS = 2000


class Interval(NamedTuple):
    """A mean, and the bounds between which it lies in 95 % of the samples that could have been drawn instead."""

    mean: float
    low: float
    high: float


class MedianInterval(NamedTuple):
    """The same for a median."""

    median: float
    low: float
    high: float


def mean_interval(values: np.ndarray, seed: int = 0) -> Interval:
    """Return the mean of values (N,) and its 95 % percentile-bootstrap interval, from 2,000 draws; NaN for no values.

    References
    ----------
    Efron, Tibshirani, *An Introduction to the Bootstrap*, 1993, section 13.3.
    """
    values = _row(values)
    if not len(values):
        return Interval(np.nan, np.nan, np.nan)
    low, high = np.quantile(_draws(values, seed).mean(axis=1), [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high))


def median_interval(values: np.ndarray, seed: int = 0) -> MedianInterval:
    """Return the median of values (N,), of which some may be infinite, and its interval, as `mean_interval` does."""
    values = _row(values)
    if not len(values):
        return MedianInterval(np.nan, np.nan, np.nan)
    medians = np.median(_draws(values, seed), axis=1)
    low, high = np.quantile(medians, [0.025, 0.975], method="inverted_cdf")  # nothing between a number and infinity
    return MedianInterval(float(np.median(values)), float(low), float(high))


def _row(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"values: expected numbers (N,), got shape {values.shape}")
    return values


def _draws(values: np.ndarray, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).choice(values, (DRAWS, len(values)))
