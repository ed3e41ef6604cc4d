"""The tables of a sweep."""

import numpy as np

from fragile_utils import experiments


def test_the_summary_counts_and_averages_what_succeeded(finished):
    _, table = experiments.results(finished)
    table.loc[table.index % 5 == 0, "success"] = False
    found = experiments.summary(table)
    assert len(found) == 8 * 3
    for row in found.itertuples():
        group = table[(table.method == row.method) & (table.attack == row.attack) & (table.eps == row.eps)]
        values = [value for value, success in zip(group[row.measure], group.success, strict=True) if success]
        assert (row.images, row.failures) == (7, 7 - len(values))
        np.testing.assert_allclose([row.mean, row.median], [np.mean(values), np.median(values)])
        assert min(values) <= row.low <= row.mean <= row.high <= max(values)


def test_a_cell_in_which_nothing_succeeded_has_no_mean(finished):
    _, table = experiments.results(finished)
    found = experiments.summary(table.assign(success=False))
    assert found[["mean", "low", "high", "median"]].isna().all(axis=None)
    assert (found.failures == found.images).all()
