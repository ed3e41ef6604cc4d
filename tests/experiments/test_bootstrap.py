import numpy as np
import pytest
import scipy.stats

from fragile_utils.experiments.bootstrap import mean_interval, median_interval


def test_the_interval_is_that_of_scipy():
    values = np.random.default_rng(1).exponential(size=60)
    found = mean_interval(values)
    truth = scipy.stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=2)
    assert found.mean == values.mean()
    np.testing.assert_allclose([found.low, found.high], truth.confidence_interval, rtol=0.02)


def test_the_interval_is_that_of_the_normal_distribution_for_many_values():
    values = np.random.default_rng(1).normal(5, 2, 400)
    found = mean_interval(values)
    np.testing.assert_allclose([found.mean - found.low, found.high - found.mean], 1.96 * values.std() / 20, rtol=0.1)


def test_no_values_have_no_mean():
    assert np.isnan(mean_interval(np.array([]))).all()


def test_the_interval_of_a_median_is_that_of_scipy():
    values = np.random.default_rng(1).exponential(size=61)
    found = median_interval(values)
    truth = scipy.stats.bootstrap((values,), np.median, n_resamples=20_000, method="percentile", rng=2)
    assert found.median == np.median(values)
    np.testing.assert_allclose([found.low, found.high], truth.confidence_interval, rtol=0.05)


def test_a_median_can_be_infinite_and_so_can_its_bounds():
    assert median_interval(np.array([1.0, np.inf, np.inf])).median == np.inf
    found = median_interval(np.array([1.0] * 30 + [np.inf] * 25))
    assert (found.median, found.low, found.high) == (1, 1, np.inf)
    assert np.isnan(median_interval(np.array([]))).all()


@pytest.mark.parametrize("interval", [mean_interval, median_interval])
@pytest.mark.parametrize("values", [np.array([[0.0, 100.0], [0.0, 100.0]]), np.float64(3)])
def test_values_are_in_a_row(interval, values):
    with pytest.raises(ValueError, match=r"values: expected numbers \(N,\), got shape \("):
        interval(values)
