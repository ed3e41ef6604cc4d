"""The report of an audit as files, written from Python and read again."""

import json

import pandas as pd
import pytest
from audits import code, small

from fragile_utils.experiments import audit
from fragile_utils.plots.audit_report import read_report, write_report


def test_a_report_is_written_without_a_command_and_read_again(tmp_path):
    wanted = small(images=2, steps=1, budgets=[2])
    found = audit.follow(audit.plan(wanted, code(), "cpu"), tmp_path, code())
    summary = write_report(found, tmp_path, code(), "cpu")
    assert summary == audit.summarise(found) == read_report(tmp_path)
    rows = pd.read_parquet(tmp_path / "results.parquet")
    assert dict(rows["kind"].value_counts()) == {"attack": len(found.attacks), "natural": len(found.natural)}
    page = (tmp_path / "report.html").read_text()
    assert page.count('type="range"') == 3
    assert summary["methods"]["gradient"]["paragraph"].split(":")[0] in page


def test_what_is_no_report_is_refused(tmp_path):
    path = tmp_path / "summary.json"
    with pytest.raises(ValueError, match=f"cannot read {path}: No such file"):
        read_report(tmp_path)
    fields = {name: {} for name in ("methods", "order", "settings", "sha256")}
    for content, message in (([], "summary: expected an object"), (fields | {"schema": 3}, "expected schema fragile")):
        path.write_text(json.dumps(content))
        with pytest.raises(ValueError, match=f"{path}: these are not the numbers of a report: {message}"):
            read_report(tmp_path)
