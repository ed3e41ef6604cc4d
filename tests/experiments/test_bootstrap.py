import numpy as np
import scipy.stats

from fragile_utils.experiments.bootstrap import mean_interval


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
