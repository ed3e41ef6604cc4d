"""The claims of a chapter, noted one by one, and the stored table of what they find where sums are rounded."""

import csv
import sys

import nbformat
import pytest
import roundings
from mutants import ROOT, run

CLAIMS = """
from fragile_utils.claims import check
check("one is one", 1, equal_to=1)
check("one is two", 1, equal_to=2)
check("two is more", 2, at_least=1.5)
"""
SETTING = """
import torch
check("oneDNN is there", torch.backends.mkldnn.enabled)
"""


@pytest.fixture
def chapter(tmp_path):
    def written(*cells):
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        nbformat.write(book, tmp_path / "chapter.ipynb")
        return tmp_path / "chapter.ipynb"

    return written


def test_each_claim_is_noted_and_none_stops_a_chapter_but_an_error_does(chapter):
    found = roundings.claims_of(chapter(CLAIMS, SETTING, "1 / 0", "check('never', True)"), {"ONEDNN": "0"})
    assert found == [
        ["one is one", "1", True],
        ["one is two", "1", False],
        ["two is more", "2", True],
        ["oneDNN is there", "true for 0 of 1", False],
        ["the chapter stops", "division by zero", False],
    ]


def test_otherwise_the_first_claim_that_fails_stops_it(chapter):
    command = [sys.executable, str(ROOT / "tests" / "executed.py"), str(chapter(CLAIMS, SETTING))]
    status, output = run(command, ROOT)
    assert status == 3
    assert output.splitlines()[-1] == "@one is two"


def test_in_the_stored_table_no_claim_fails_and_roundings_make_a_difference():
    with (ROOT / "book" / "results" / "roundings.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["rounding"]: row for row in csv.DictReader(file)}
    assert [*rows] == [*roundings.ROUNDINGS]
    assert len({row["claims"] for row in rows.values()}) == 1
    assert {row["that fail"] for row in rows.values()} == {"0"}
    others = [int(row["that find another number"]) for row in rows.values()]
    assert others[0] == 0
    assert min(others[1:]) >= 20
