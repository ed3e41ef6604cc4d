"""``fragile grade``: the exercises of a notebook, graded without opening it."""

import argparse

from fragile_utils import course
from fragile_utils._base import checks, schema
from fragile_utils.cli import _common as common
from fragile_utils.course.notebook import grade_notebook


def add_parser(commands) -> None:
    """Add this command to the sub-parsers `commands`."""
    parser = commands.add_parser(
        "grade",
        help="grade the exercises of a notebook",
        description='Run the tests of each exercise that NOTEBOOK asks for with grade("ex-..."). Of its cells, what '
        "they import and define is run, and nothing else. That is code of whoever wrote it: grade what you would run.",
    )
    parser.set_defaults(command=run)
    add = parser.add_argument
    add("notebook", type=common.path, metavar="NOTEBOOK", help="a student's notebook, .ipynb")
    add("--sources", type=common.path, metavar="FOLDER", help="of the exercises: run their hidden tests as well")
    add("--seed", type=common.whole, default=0, help="of the numbers that tests draw")
    add("--timeout", type=float, default=60.0, metavar="SECONDS", help="for each exercise (default: 60)")
    add("--json", action="store_true", help="print a JSON object a line: one an exercise, and a summary")


def run(options: argparse.Namespace) -> int:
    """Grade the notebook, and print what the tests say."""
    checks.positive(options.timeout, "--timeout")
    schema.whole(options.seed, "--seed", low=0, high=2**63 - 1)
    sources = None if options.sources is None else course.load(options.sources)
    reports = []
    for report in grade_notebook(options.notebook, sources, options.seed, options.timeout):
        reports.append(report)
        if options.json:
            common.print_json(_record(report))
        else:
            print(report, flush=True)
    summary = {
        "exercises": len(reports),
        "passed": sum(r.passed for r in reports),
        "score": sum(r.score for r in reports),
    }
    if options.json:
        common.print_json({"summary": True} | summary)
    else:
        print("{passed} of {exercises} exercises passed; {score:.2f} points, one for each exercise".format(**summary))
    return 0


def _record(report: course.Report) -> dict:
    tests = [{"tests": outcome.tests, "problem": outcome.problem} for outcome in report.outcomes]
    return {"exercise": report.label, "passed": report.passed, "score": report.score, "note": report.note, "of": tests}
