"""The budget to failure, against np.interp on each image alone."""

import numpy as np
import pandas as pd
import pytest

from fragile_utils.experiments import budget_to_failure

BUDGETS = [0.5, 1, 2, 4]


def table(curves, measure="topk_intersection", success=True):
    """One image for each curve over the budgets, as rows in no order."""
    rows = [
        {"method": "gradient", "attack": "topk", "index": i, "eps": eps, "success": success, measure: value}
        for i, curve in enumerate(curves)
        for eps, value in zip(BUDGETS, curve, strict=True)
    ]
    return pd.DataFrame(rows).sample(frac=1, random_state=0)


def test_it_is_where_the_interpolated_curve_passes_the_level():
    curves = np.sort(np.random.default_rng(0).random((50, 4)), axis=1)[:, ::-1]
    found = budget_to_failure(table(curves), level=0.5)
    for i, curve in enumerate(curves):
        rising = 1 - np.array([1, *curve])
        expected = np.interp(0.5, rising, [0, *BUDGETS]) if rising.max() >= 0.5 else np.inf
        assert found["gradient", "topk", i] == pytest.approx(expected)
    assert np.isinf(found).any()


@pytest.mark.parametrize("name", [None, np.nan, "NA"])
def test_a_network_may_have_no_name(name):
    curves = [[0.9, 0.4, 0.3, 0.1], [0.9, 0.8, 0.45, 0.1]]
    found = budget_to_failure(table(curves).assign(model=name, data="x"))
    assert found.tolist() == pytest.approx(budget_to_failure(table(curves)).tolist())


def test_a_larger_budget_can_do_what_a_smaller_one_does():
    found = budget_to_failure(table([[0.9, 0.4, 0.8, 0.9]]))
    assert found.item() == pytest.approx(0.5 + 0.5 * (0.9 - 0.5) / (0.9 - 0.4))


def test_where_the_attack_fails_nothing_changes():
    assert np.isinf(budget_to_failure(table([[0.1, 0.1, 0.1, 0.1]], success=False))).all()
    noise = table([[0.1, np.nan, 0.1, 0.1]], "noise_topk_intersection")
    assert budget_to_failure(noise, prefix="noise_").item() == pytest.approx(0.5 * 0.5 / 0.9)


def test_what_was_never_measured_has_no_answer():
    """As noise of random signs; a measure at one budget is enough."""
    nothing, one, all_there = [np.nan] * 4, [np.nan, 0.1, np.nan, np.nan], [0.9, 0.8, 0.6, 0.1]
    found = budget_to_failure(table([nothing, one, all_there]))
    assert found.isna().tolist() == [True, False, False]
    pd.testing.assert_series_equal(found[1:], budget_to_failure(table([all_there, one, all_there]))[1:])
    assert budget_to_failure(table([nothing, nothing], "noise_topk_intersection"), prefix="noise_").isna().all()
    signs = table([nothing, nothing]).assign(attack="random-sign", model=None)
    rows = table([one, all_there])
    pd.testing.assert_series_equal(
        budget_to_failure(rows.assign(success=rows["success"].astype(object))), budget_to_failure(rows)
    )
    both = pd.concat([signs, table([all_there, all_there]).assign(model=None)])
    assert budget_to_failure(both).isna().tolist() == [True, True, False, False]


def test_an_image_without_one_of_the_budgets_has_no_answer():
    """Of a partial table: what is not there may have failed or not."""
    whole = table([[0.9, 0.8, 0.6, 0.1]] * 4)
    pairs = pd.MultiIndex.from_frame(whole[["index", "eps"]])
    part = whole[~pairs.isin([(1, 4), (2, 1), (3, 0.5)])]
    found = budget_to_failure(part)
    assert found.isna().tolist() == [False, True, True, True]
    assert found.iloc[0] == pytest.approx(np.interp(0.5, [0, 0.1, 0.2, 0.4, 0.9], [0, *BUDGETS]))
    assert np.isinf(budget_to_failure(part[part["eps"] < 4]).iloc[:2]).all()
    assert len(budget_to_failure(part[:0])) == 0


def test_the_budgets_of_an_attack_are_its_own():
    """Each attack by itself, at its budgets; together they are the same."""
    rows = table([[0.9, 0.8, 0.6, 0.1], [0.4, 0.3, 0.3, 0.2], [0.9, 0.9, 0.9, 0.8]])
    parts = {"topk": [0.5, 1], "mass-center": [1, 4], "random-sign": [4]}
    tables = [rows[rows["eps"].isin(budgets)].assign(attack=attack) for attack, budgets in parts.items()]
    alone = pd.concat([budget_to_failure(part) for part in tables]).sort_index()
    together = budget_to_failure(pd.concat(tables).sample(frac=1, random_state=1))
    pd.testing.assert_series_equal(together, alone)
    assert together["gradient", "random-sign", 0] == pytest.approx(np.interp(0.5, [0, 0.9], [0, 4]))
    assert together["gradient", "mass-center", 1] == pytest.approx(np.interp(0.5, [0, 0.7], [0, 1]))


def test_the_shift_rises():
    assert budget_to_failure(table([[5, 10, 20, 40]], "center_shift"), "center_shift", 30).item() == pytest.approx(3)


def test_at_a_budget_that_just_suffices():
    assert budget_to_failure(table([[1.0, 0.5, 0.5, 0.2]])).item() == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"measure": "x"}, "measure: expected one of topk_intersection, .*, got 'x'"),
        ({"level": 1.0}, "level: expected below 1 for topk_intersection, got 1.0"),
        ({"measure": "rank_correlation"}, "expected a column 'rank_correlation'"),
        ({"prefix": "noise_"}, "expected a column 'noise_topk_intersection'"),
    ],
)
def test_what_makes_no_sense_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        budget_to_failure(table([[1, 1, 1, 1]]), **options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.drop(columns="success"), "table: expected a column 'success', got method, attack, index"),
        (lambda rows: rows.drop(columns="eps"), "table: expected a column 'eps', got method, attack, index, success"),
        (lambda rows: rows.drop(columns="index"), "table: expected a column 'index', got method, attack, eps"),
        (lambda rows: rows.assign(success="False"), "table: expected true or false as 'success', got string"),
        (lambda rows: rows.assign(success=0.0), "table: expected true or false as 'success', got floating"),
        (lambda rows: rows.assign(success=[True, False, None, True]), "true or false as 'success', got mixed"),
        (lambda rows: pd.concat([rows, rows[:3]]), "table: expected one row for each image, .* budget, got 3 more"),
    ],
)
def test_a_table_of_other_rows_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        budget_to_failure(change(table([[1, 1, 1, 1]]).sort_index()))


def test_a_shift_of_nothing_is_refused():
    with pytest.raises(ValueError, match="level: expected above 0 for center_shift, got 0"):
        budget_to_failure(table([[1, 1, 1, 1]], "center_shift"), "center_shift", 0)
