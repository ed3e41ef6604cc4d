"""Stored results."""

from importlib import resources

import pytest

from fragile_utils import data
from fragile_utils.experiments.audit.settings import SEARCHES

RESULTS = resources.files("fragile_utils") / "results"


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


AUDITS = [path.stem for path in RESULTS.glob("audit_*.json")]


@pytest.mark.parametrize("name", AUDITS)
def test_the_numbers_of_an_audit_are_those_of_its_rows(name):
    about, table = data.results(name)
    assert about["schema"] == "fragile-audit/2"
    assert about["seconds"] > 0
    rows = table[table.kind == "attack"]
    for method, found in about["methods"].items():
        for cell in found["cells"]:
            some = rows[(rows.method == method) & (rows.attack == cell["attack"]) & (rows.eps == cell["eps"])]
            assert list(some.name) == about["images"]["names"]
            counted = some if cell["attack"] in SEARCHES else some[some.success]  # noise has to keep the answer
            assert counted.topk_intersection.mean() == pytest.approx(cell["topk_intersection"]["mean"], abs=1e-5)
            assert (~some.success).sum() == cell["unchanged"]
