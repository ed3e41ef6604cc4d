"""``fragile audit``: how fragile the explanations of a network are, as a report that can be read without us."""

import argparse
import contextlib
import io
import json
import logging
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from fragile_utils import experiments
from fragile_utils._base import schema
from fragile_utils._base.devices import pick_device
from fragile_utils._base.files import write_bytes
from fragile_utils.cli import _common as common
from fragile_utils.cli.sweep import spoken
from fragile_utils.experiments import audit, audit_conditions, audit_summary, running
from fragile_utils.plots import audit as pages
from fragile_utils.plots import widgets

SUMMARY, RESULTS, REPORT = "summary.json", "results.parquet", "report.html"
FIELDS = {"models": "--model", "model": "--model", "methods": "--method", "folder": "--out"} | {
    name: f"--{name}" for name in ("data", "budgets", "images", "k", "steps", "scheduler")
}
BELOW = 3  # exit status where --fail-below is not met


def add_parser(commands) -> None:
    """Add this command to the sub-parsers `commands`."""
    parser = commands.add_parser(
        "audit",
        help="report how fragile the explanations of a network are",
        description="Attack the explanations of a network on a folder of images, with noise, everyday changes and "
        "chance beside it, and write a report: report.html, summary.json, results.parquet. Stopped, it goes on where "
        "it was when it is called again. Budgets and steps are in levels of 255.",
        usage="%(prog)s --model MODEL --data FOLDER --out REPORT [options]\n"
        "       %(prog)s --compare REPORT REPORT [--out FOLDER]",
    )
    parser.set_defaults(command=run, default_of=parser.get_default)
    add = parser.add_argument
    common.add_model_options(parser)
    add("--data", default="imagenet-samples", help="a folder of images, an image, or a name of embedded samples")
    add("--out", type=common.path, metavar="REPORT", help="the folder of the report: a new one, or one to go on with")
    add(
        "--quick",
        action="store_true",
        help="8 images, two methods, few steps: minutes; the report says what is left out",
    )
    add(
        "--method",
        type=common.choice,
        action="append",
        metavar="METHOD",
        help="a method, with options, such as ig:steps=50,baseline=blur; may be repeated (default: "
        f"{', '.join(audit.METHODS)})",
    )
    add("--images", type=common.whole, help="how many images, at most (default: 16)")
    add("--steps", type=common.whole, help="the number of steps (default: 100)")
    add("--step-size", type=float, help="the size of a step (default: 0.5)")
    add("--budgets", type=common.numbers, metavar="B,B,...", help="the largest changes (default: 0.5,1,2,4,8)")
    add(
        "--k",
        type=common.whole,
        help="how many pixels count as most salient (default: 1000; 100 below 100x100; at most a quarter of them)",
    )
    add("--seed", type=common.whole, default=0, help="seed of all that is random (default: 0)")
    add(
        "--fail-below",
        action="append",
        default=[],
        metavar=audit_conditions.FORM,
        help="exit with status 3 where less is left on average: topk_intersection=0.3@2, by attacks and noise of up to "
        "2 levels; of one of them, 0.8@noise:2; of one everyday change, 0.7@jpeg, or of all after which a map ought to "
        "be where it was, 0.7@everyday; may be repeated",
    )
    add("--compare", nargs=2, type=common.path, metavar="REPORT", help="set two reports side by side")
    add("--plan", action="store_true", help="say what would be done, and how long it would take, and stop")
    add("--batch-size", type=common.whole, default=8, help="how many images are attacked at a time (default: 8)")
    add("--device", default="auto", help="auto, cpu, cuda: auto takes a GPU where there is one")
    add("--scheduler", metavar="ADDRESS", help="of a Dask cluster; or local:N, for N processes on this machine")
    add("--json", action="store_true", help="print summary.json at the end")


def run(options: argparse.Namespace) -> int:
    """Audit a network, or compare two audits."""
    counts = ("images", "steps", "k", "batch_size")
    if options.compare is not None:
        common.check_apply(options, "compare", ("out",))
    if options.plan:
        common.check_apply(options, "plan", vars(options).keys() - {"json"})
    common.check_options(options, counts=counts, positive=("step_size",))
    try:
        if options.compare is None:
            return audited(options)
        return compare(*options.compare, options.out)
    except ValueError as error:  # of a value: here its fields have the names of options
        field, colon, said = str(error).partition(": ")
        if field not in FIELDS or not colon:
            raise
        raise ValueError(f"{FIELDS[field]}: {said}") from error


def audited(options: argparse.Namespace) -> int:
    """Audit a network."""
    if options.out is None and not options.plan:
        raise ValueError("expected --out REPORT, the folder of the report")
    if options.out is not None:
        audit.check_folder(options.out)
    wanted = chosen(options)
    conditions = [condition(text, wanted.budgets) for text in options.fail_below]
    code = common.allowed(functions(wanted), options.trust)
    device = str(pick_device(options.device, "--device"))
    executor: Any = running.InProcess(options.device, options.batch_size)
    if options.scheduler is not None:
        executor = experiments.Cluster(options.scheduler, options.device, options.batch_size)
    with contextlib.redirect_stdout(sys.stderr):  # what the reader's own code prints is no part of the answer
        plan = audit.plan(wanted, code, device)
    if options.plan or not options.json:
        print(plan.describe(), flush=True)
    if options.plan:
        return 0
    try:
        with spoken(logging.WARNING), running.interruptible(), contextlib.redirect_stdout(sys.stderr):
            summary = report(plan, options.out, code, executor, sys.stderr.isatty(), options.device)
    except KeyboardInterrupt:
        print(f"fragile: stopped; what is done is in {options.out}, and the same command goes on", file=sys.stderr)
        raise
    if options.json:
        print(json.dumps(summary))
    else:
        print("\n\n".join(summary["methods"][name]["paragraph"] for name in summary["order"]))
        print(f"written: {options.out / REPORT}, {SUMMARY}, {RESULTS}")
    failures = [line for held in conditions for line in held.failures(summary)]
    for line in failures:
        print(f"fragile: {line}", file=sys.stderr)
    return BELOW if failures else 0


def chosen(options: argparse.Namespace) -> audit.Audit:
    """Return the audit that the options describe."""
    how = {"mean": options.mean, "std": options.std, "size": options.size, "classes": options.classes}
    model = {"name": options.model} | {name: _plain(value) for name, value in how.items() if value is not None}
    names = {"images": "images", "steps": "steps", "step_size": "step_size", "budgets": "budgets", "k": "k"}
    names |= {"seed": "seed", "methods": "method"}
    changes = {field: getattr(options, name) for field, name in names.items() if getattr(options, name) is not None}
    make = audit.quick if options.quick else audit.Audit
    return make(model=model, data=options.data, **changes)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def functions(wanted: audit.Audit) -> list[str]:
    """Return the code of the reader's own that an audit names; to name it on the command line is to allow it."""
    return wanted.sweep("attacks", k=1).functions


def condition(text: str, budgets: tuple[float, ...]) -> audit_conditions.Condition:
    """Return a condition of ``--fail-below``."""
    try:
        return audit_conditions.parse(text, budgets)
    except ValueError as error:
        raise ValueError(f"--fail-below: {error}") from error


def report(
    plan: audit.Plan, out: Path, code: Any, executor: Any, progress: bool = False, device: str = "auto"
) -> dict[str, Any]:
    """Compute what is missing of an audit, write its report, and return its summary."""
    found = audit.follow(plan, out, code, executor, progress)
    summary = audit_summary.summarise(found)
    least = summary["order"][-1]
    sliders = {}
    for word, part, results in audit.examples(found, out, code, device, least):
        k, classes = plan.audit.k, part.classes
        caption = f"{part.names[0]}, {least}"
        sliders[word] = widgets.EpsilonSlider(part.images, results, 0, k=k, classes=classes, caption=caption).html
    table = found.attacks.assign(kind="attack")
    natural = found.natural.assign(kind="natural")
    content = io.BytesIO()
    pd.concat([table, natural], ignore_index=True).to_parquet(content, index=False)
    write_bytes(out / RESULTS, content.getvalue())
    write_bytes(out / SUMMARY, (json.dumps(summary, indent=1, allow_nan=False) + "\n").encode())
    write_bytes(out / REPORT, pages.page(summary, sliders, least).encode())
    return summary


def compare(first: Path, second: Path, out: Path | None) -> int:
    """Print two reports side by side, and write a page of them if there is a folder for it."""
    names = (first.name or str(first), second.name or str(second))
    one, two = read(first), read(second)
    rows, page = pages.compared(one, two, names if names[0] != names[1] else (str(first), str(second)))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print(pages.remarks(one, two))
    if out is not None:
        write_bytes(out / "compare.html", page.encode())
        print(f"written: {out / 'compare.html'}")
    return 0


def read(folder: Path) -> dict[str, Any]:
    """Return the summary of a report.

    Raises
    ------
    ValueError
        If there is none, or it is not one that this version knows.
    """
    path = folder / SUMMARY
    try:
        found = schema.parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    fields = ("schema", "methods", "order", "settings", "sha256")
    if schema.fields(found, str(path), fields)["schema"] != audit_summary.SCHEMA:
        raise ValueError(f"{path}: expected schema {audit_summary.SCHEMA}, got {schema.shown(found['schema'])}")
    try:
        pages.compared(found, found, ("a", "b"))
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        said = f"{type(error).__name__}: {error}"
        raise ValueError(f"{path}: these are not the numbers of a report ({said})") from error
    return dict(found)
