"""The report of an audit as files: the page, its numbers and the rows behind them, written and read again."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from fragile_utils._base import schema
from fragile_utils._base.code import Code
from fragile_utils._base.files import whole_file, write_bytes
from fragile_utils.experiments import audit
from fragile_utils.experiments.audit.summary import SCHEMA
from fragile_utils.plots.audit import compared, page
from fragile_utils.plots.widgets import EpsilonSlider

SUMMARY, RESULTS, REPORT = "summary.json", "results.parquet", "report.html"


def write_report(
    found: audit.Findings,
    folder: Path,
    code: Code = Code(),  # noqa: B008 - a frozen value
    device: str = "auto",
) -> dict[str, Any]:
    """Write the report of an audit to its folder, as ``report.html``, ``summary.json`` and ``results.parquet``.

    Parameters
    ----------
    found : Findings
        As `experiments.audit.follow` returns it.
    folder : path
        That of the audit: three images of the least steady method are attacked again, with what is in it.
    code : Code
        The functions of the reader's own that may be imported and called, as for `experiments.audit.follow`.
    device : str
        On which they are attacked; "auto" is a GPU where there is one.

    Returns
    -------
    dict
        What `experiments.audit.summarise` returns, which is in ``summary.json``.
    """
    summary = audit.summarise(found)
    least, k = summary["order"][-1], found.plan.audit.k
    sliders = {
        word: EpsilonSlider(
            part.images, results, 0, k=k, classes=part.classes, caption=f"{part.names[0]}, {least}"
        ).html
        for word, part, results in audit.examples(found, folder, code, device, least)
    }
    tables = [found.attacks.assign(kind="attack"), found.natural.assign(kind="natural")]
    with whole_file(folder / RESULTS) as file:
        pd.concat(tables, ignore_index=True).to_parquet(file, index=False)
    write_bytes(folder / SUMMARY, (json.dumps(summary, indent=1, allow_nan=False) + "\n").encode())
    write_bytes(folder / REPORT, page(summary, sliders, least).encode())
    return summary


def read_report(folder: Path) -> dict[str, Any]:
    """Return the summary in the folder of a report.

    Raises
    ------
    ValueError
        If there is none, or it is not one that this version knows.
    """
    return schema.load(folder / SUMMARY, _checked, "the numbers of a report")


def _checked(found: Any) -> dict[str, Any]:
    """Return a summary of which pages can be made."""
    fields: Mapping[str, Any] = schema.fields(found, "summary", ("schema", "methods", "order", "settings", "sha256"))
    if fields["schema"] != SCHEMA:
        raise ValueError(f"expected schema {SCHEMA}, got {schema.shown(fields['schema'])}")
    try:
        compared(fields, fields, ("a", "b"))
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
    return dict(fields)
