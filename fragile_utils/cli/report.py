"""``fragile report``: the table and the figure of a sweep."""

import argparse
import sys

from fragile_utils import experiments
from fragile_utils._base.files import whole_file, write_bytes
from fragile_utils.cli import _common as common
from fragile_utils.experiments import report
from fragile_utils.plots import sweeps


def add_parser(commands) -> None:
    """Add this command to the sub-parsers `commands`."""
    parser = commands.add_parser(
        "report",
        help="print the table of a sweep, and draw its figure",
        description="Print what the attacks of a sweep did: mean [95 % interval] median over the images on which they "
        "succeeded. Write it as summary.csv and figure.png, with a row for each image in rows.csv and the settings in "
        "rows.json.",
    )
    parser.set_defaults(command=run, default_of=parser.get_default)
    add = parser.add_argument
    add("folder", type=common.path, metavar="FOLDER", help="of a sweep; it need not be complete")
    add("--out", type=common.path, metavar="FOLDER", help="where the files go (default: report in the sweep's folder)")
    add("--collect", type=common.path, metavar="NAME", help="write NAME.csv (a row for each image) and NAME.json only")
    add("--max-cells", type=common.whole, default=experiments.MAX_CELLS, metavar="N", help=common.MAX_CELLS)
    add("--json", action="store_true", help="print a JSON object for each row of the table")


def run(options: argparse.Namespace) -> int:
    """Print and write the results that there are."""
    if options.collect is not None:
        common.check_apply(options, "collect", ("folder", "max_cells"))
    common.check_options(options, counts=("max_cells",), positive=())
    settings, table = experiments.results(options.folder, partial=True, max_cells=options.max_cells)
    done, of = settings["shards"]["done"], settings["shards"]["of"]
    if done < of:
        print(f"fragile: incomplete: {done} of {of} shards; fragile sweep computes the others", file=sys.stderr)
    if options.collect is not None:
        written = report.collect(settings, table, options.collect)
        print("\n".join(map(str, written)))
        return 0
    summary = experiments.summary(table)
    folder = options.folder / "report" if options.out is None else options.out
    csv = summary.to_csv(index=False, float_format="%.6g", lineterminator="\n")
    write_bytes(folder / "summary.csv", csv.encode())
    with whole_file(folder / "figure.png") as file:
        sweeps.figure(summary, report.note(settings)).savefig(file, format="png", dpi=150)
    report.collect(settings, table, folder / "rows")
    if options.json:
        for row in summary.to_dict("records"):
            common.print_json(row)
    else:
        print(report.note(settings))
        print(report.text(summary))
        print(f"written: {folder}/")
    return 0
