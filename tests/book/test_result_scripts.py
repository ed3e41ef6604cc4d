"""The scripts of book/results: each can be read, and what they store is what `data.results` reads."""

import runpy
from pathlib import Path

import pandas as pd
import pytest

from fragile_utils import data
from fragile_utils.data import stored

FOLDER = Path(__file__).resolve().parents[2] / "book" / "results"


@pytest.fixture
def large_experiment(common):
    import large_experiment

    return large_experiment


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


def cell(names, *, method="gradient", attack="topk", eps=1.0):
    """Rows of a sweep, which numbers its images from 0 on; a row's iteration says which image it is."""
    columns = {"method": method, "attack": attack, "eps": eps, "index": range(len(names)), "name": names}
    return pd.DataFrame(columns | {"iteration": [int(name[1:]) for name in names]})


def test_an_image_has_one_index_whichever_sweeps_saw_it(large_experiment):
    few, many = cell(["i3", "i7"], method="deeplift"), cell(["i1", "i3", "i5", "i7"])
    table, images = large_experiment.one_table([few, many], large_experiment.CELL)
    assert images == ["i1", "i3", "i5", "i7"]
    assert (table["iteration"] == [int(images[i][1:]) for i in table["index"]]).all()
    pairs = table.pivot(index="index", columns="method", values="iteration").dropna()
    assert len(pairs) == 2
    assert (pairs["gradient"] == pairs["deeplift"]).all()


def test_of_a_cell_the_sweep_with_the_most_images_is_taken(large_experiment):
    first, second = cell(["i1", "i2"]), cell(["i3", "i4", "i5"])
    other = cell(["i1"], eps=2.0)
    table, _ = large_experiment.one_table([pd.concat([first, other]), second], large_experiment.CELL)
    taken = table.groupby("eps")["sweep"].agg(["first", "size"])
    assert taken.to_dict("index") == {1.0: {"first": 1, "size": 3}, 2.0: {"first": 0, "size": 1}}
    again, _ = large_experiment.one_table([first, cell(["i6", "i7"])], large_experiment.CELL)
    assert set(again["name"]) == {"i6", "i7"}  # of equal ones the last


@pytest.mark.parametrize("name", ["imagenet", "cifar10"])
def test_stored_tables_say_which_image_and_which_sweep_a_row_is_of(name, large_experiment):
    about, table = data.results(name)
    assert len(set(about["images"])) == len(about["images"])
    assert set(table["index"]) == set(range(len(about["images"])))
    assert set(table["sweep"]) == set(range(len(about["sweeps"])))
    for i, part in enumerate(about["sweeps"]):
        sweep, rows = part["sweep"], table[table["sweep"] == i]
        assert set(rows["attack"]) <= set(sweep["attacks"])
        assert set(rows["eps"]) <= set(sweep["budgets"])
        assert rows.groupby(large_experiment.CELL)["index"].nunique().eq(part["subjects"][0]["images"]).all()
