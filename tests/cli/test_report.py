"""`fragile report` as a user meets it: output, exit status, files."""

import json
import os

import pandas as pd
import sweeps
from command_line import assert_refused

from fragile_utils import experiments
from fragile_utils.data import stored


def test_the_report_is_a_table_a_figure_and_files(fragile, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "linesep", "\r\n")  # as on Windows
    status, out, err = fragile("report", folder, "--out", tmp_path / "report")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "7 images of sweeps:many_images (sweeps:network)"
    assert lines[1] == "3 steps of 4 levels, every iterate measured"
    assert lines[2].startswith("torch ")
    assert len(lines) == 3 + 1 + 8 + 1
    assert {path.name for path in (tmp_path / "report").iterdir()} == {
        "summary.csv",
        "figure.png",
        "rows.csv",
        "rows.json",
    }
    assert (tmp_path / "report" / "figure.png").read_bytes()[:4] == b"\x89PNG"
    for name in ("summary.csv", "rows.csv"):
        assert b"\r" not in (tmp_path / "report" / name).read_bytes()
    found = pd.read_csv(tmp_path / "report" / "summary.csv")
    expected = experiments.summary(sweeps.rows(folder))
    pd.testing.assert_frame_equal(found, expected, check_exact=False, check_dtype=False, rtol=1e-5)
    row = expected.iloc[0]
    assert f"{row['mean']:.3g} [{row.low:.3g}, {row.high:.3g}] {row['median']:.3g}" in lines[4]


def test_the_report_for_programs(fragile, folder, tmp_path):
    _, out, _ = fragile("report", folder, "--out", tmp_path, "--json")
    records = [json.loads(line) for line in out.splitlines()]
    assert len(records) == 24
    assert records[0].keys() == set(experiments.summary(sweeps.rows(folder)).columns)


def test_collected_results_are_what_the_book_reads(fragile, folder, tmp_path, monkeypatch):
    status, out, _ = fragile("report", folder, "--collect", tmp_path / "results" / "small")
    assert status == 0
    assert out.split() == [f"{tmp_path}/results/small.csv", f"{tmp_path}/results/small.json"]
    monkeypatch.setattr(stored.resources, "files", lambda _: tmp_path)
    settings, table = stored.results("small")
    assert settings["about"] == "a small sweep"
    assert settings["sweep"]["steps"] == 3
    expected = sweeps.rows(folder).drop(columns=["model", "data"])
    expected["reason"] = expected["reason"].replace("", float("nan"))
    pd.testing.assert_frame_equal(table, expected, check_exact=False, rtol=1e-5, check_dtype=False)


def test_what_collects_prints_and_draws_nothing(fragile, folder, tmp_path):
    for options in (["--out", tmp_path / "out"], ["--json"]):
        outcome = fragile("report", folder, "--collect", tmp_path / "rows", *options)
        assert_refused(outcome, f"{options[0]}: this does not apply where --collect is given; leave it out")
    assert list(tmp_path.iterdir()) == []


def test_an_incomplete_sweep_is_reported_as_such(fragile, folder, tmp_path):
    copy = tmp_path / "copy"
    (copy / "shards").mkdir(parents=True)
    (copy / "settings.json").write_bytes((folder / "settings.json").read_bytes())
    for path in sorted((folder / "shards").iterdir())[:5]:
        (copy / "shards" / path.name).write_bytes(path.read_bytes())
    status, out, err = fragile("report", copy)
    assert status == 0
    assert err == "fragile: incomplete: 5 of 16 shards; fragile sweep computes the others\n"
    assert "incomplete: 5 of 16 shards" in out
    assert (copy / "report" / "figure.png").exists()


def test_a_report_of_nothing_is_refused(fragile, tmp_path):
    assert_refused(fragile("report", tmp_path), "expected the folder of a sweep")
