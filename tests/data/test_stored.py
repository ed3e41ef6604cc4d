"""Stored results."""

import pytest

from fragile_utils import data


def test_results_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match=r"name: expected one of .*got 'nonsense'"):
        data.results("nonsense")


def test_the_flower_results_are_there_with_their_settings():
    about, table = data.results("influence_flowers")
    assert about["task"]["accuracy"] >= 0.96
    assert about["settings"]["train"] == 1000
    counts = table.groupby(["attack", "eps"]).image.nunique()
    assert set(counts) == {200}
    assert len(counts) == len(about["settings"]["attacks"]) * len(about["settings"]["eps"])
    kept = table[table.success]
    assert (kept.label == kept.label_after).all()
    assert (kept.linf <= kept.eps).all()
    example, influences = data.results("influence_flowers_example")
    assert example["settings"] == about["settings"]
    assert len(influences) == 1000
