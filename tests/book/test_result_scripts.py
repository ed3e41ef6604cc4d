"""The scripts of book/results: each can be read, and what they store is what `data.results` reads."""

import runpy
from pathlib import Path

import pandas as pd
import pytest

from fragile_utils import data
from fragile_utils.data import stored

FOLDER = Path(__file__).resolve().parents[2] / "book" / "results"


@pytest.fixture
def common(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    import _common

    return _common


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_a_script_finds_what_it_imports(path, common):
    assert runpy.run_path(str(path))["__doc__"]


def test_a_large_table_is_packed_and_read_as_it_was(common, tmp_path, monkeypatch):
    about, table = data.results("transfer")
    monkeypatch.setattr(common, "RESULTS", tmp_path / "results")
    common.store("transfer", table, about, packed=True)
    assert {path.name for path in (tmp_path / "results").iterdir()} == {"transfer.csv.gz", "transfer.json"}
    monkeypatch.setattr(stored.resources, "files", lambda package: tmp_path)
    again = data.results("transfer")
    assert again[0] == about
    pd.testing.assert_frame_equal(again[1], table)


@pytest.mark.parametrize("name", ["cifar10", "image_size", "transfer", "which_method"])
def test_what_is_stored_again_is_the_same_byte_for_byte(name, common, tmp_path, monkeypatch):
    folder = common.RESULTS
    about, table = data.results(name)
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    common.store(name, table, about)
    for path in (f"{name}.json", f"{name}.csv"):
        assert (tmp_path / path).read_bytes() == (folder / path).read_bytes()


def test_evenly_takes_the_first_and_the_last(common):
    assert common.evenly(10, 4) == [0, 3, 6, 9]
    assert common.evenly(3, 5) == [0, 1, 2]
