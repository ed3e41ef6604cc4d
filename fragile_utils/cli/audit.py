"""``fragile audit``: how fragile the explanations of a network are, as a report that can be read without us."""

import argparse
import contextlib
import json
import logging
import sys
from pathlib import Path
from typing import Any

from fragile_utils._base.devices import pick_device
from fragile_utils._base.files import write_bytes
from fragile_utils.cli import _common as common
from fragile_utils.experiments import audit, running
from fragile_utils.experiments.audit import conditions
from fragile_utils.plots import audit as pages
from fragile_utils.plots.audit_report import REPORT, RESULTS, SUMMARY, read_report, write_report

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
        metavar=conditions.FORM,
        help="exit with status 3 where less is left on average: topk_intersection=0.3@2, by attacks and noise of up to "
        "2 levels; of one of them, 0.8@noise:2; of one everyday change, 0.7@jpeg, or of all after which a map ought to "
        "be where it was, 0.7@everyday; may be repeated",
    )
    add("--compare", nargs=2, type=common.path, metavar="REPORT", help="set two reports side by side")
    add("--plan", action="store_true", help="say what would be done, and how long it would take, and stop")
    common.add_executor_options(parser, batch_size=8)
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
    wished = [condition(text, wanted.budgets) for text in options.fail_below]
    code = common.allowed(functions(wanted), options.trust)
    device, executor = str(pick_device(options.device, "--device")), common.executor(options)
    with contextlib.redirect_stdout(sys.stderr):  # what the reader's own code prints is no part of the answer
        plan = audit.plan(wanted, code, device)
    if options.plan or not options.json:
        print(plan.describe(), flush=True)
    if options.plan:
        return 0
    try:
        with common.spoken(logging.WARNING), running.interruptible(), contextlib.redirect_stdout(sys.stderr):
            found = audit.follow(plan, options.out, code, executor, sys.stderr.isatty())
            summary = write_report(found, options.out, code, options.device)
    except KeyboardInterrupt:
        print(f"fragile: stopped; what is done is in {options.out}, and the same command goes on", file=sys.stderr)
        raise
    if options.json:
        print(json.dumps(summary))
    else:
        print("\n\n".join(summary["methods"][name]["paragraph"] for name in summary["order"]))
        print(f"written: {options.out / REPORT}, {SUMMARY}, {RESULTS}")
    failures = [line for held in wished for line in held.failures(summary)]
    for line in failures:
        print(f"fragile: {line}", file=sys.stderr)
    return BELOW if failures else 0


def chosen(options: argparse.Namespace) -> audit.Audit:
    """Return the audit that the options describe."""
    how = common.network_options(options)
    model = {"name": options.model} | {name: _plain(value) for name, value in how.items()}
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


def condition(text: str, budgets: tuple[float, ...]) -> conditions.Condition:
    """Return a condition of ``--fail-below``."""
    try:
        return conditions.parse(text, budgets)
    except ValueError as error:
        raise ValueError(f"--fail-below: {error}") from error


def compare(first: Path, second: Path, out: Path | None) -> int:
    """Print two reports side by side, and write a page of them if there is a folder for it."""
    names = (first.name or str(first), second.name or str(second))
    one, two = read_report(first), read_report(second)
    rows, page = pages.compared(one, two, names if names[0] != names[1] else (str(first), str(second)))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print(pages.remarks(one, two))
    if out is not None:
        write_bytes(out / "compare.html", page.encode())
        print(f"written: {out / 'compare.html'}")
    return 0
