"""``fragile sweep``: a large experiment, stopped and gone on with at any time, here or on a cluster."""

import argparse
import logging
import sys

from fragile_utils import experiments
from fragile_utils.cli import _common as common


def add_parser(commands) -> None:
    """Add this command to the sub-parsers `commands`."""
    parser = commands.add_parser(
        "sweep",
        help="compute a grid of attacks on many images; a second call goes on where the first stopped",
        description="Compute a grid of networks, data sets, methods, attacks and budgets, shard by shard. Stopped by "
        "Ctrl-C, a kill or a power cut, it goes on where it was when it is called again.",
        usage="%(prog)s CONFIG --out FOLDER [options]\n       %(prog)s --status FOLDER [--json]",
    )
    parser.set_defaults(command=run, default_of=parser.get_default)
    add = parser.add_argument
    of = "a JSON file with the fields of experiments.Sweep"
    add("config", nargs="?", type=common.path, metavar="CONFIG", help=of)
    add("--out", type=common.path, metavar="FOLDER", help="where the results go")
    add("--status", type=common.path, metavar="FOLDER", help="say how far the sweep in FOLDER is, and check its files")
    add("--shard-size", type=common.whole, metavar="N", help="how many images one file holds (default: 32)")
    common.add_executor_options(parser, batch_size=16)
    add("--allow-code", action="store_true", help="import and call the functions of your own that CONFIG names")
    add("--trust", action="store_true", help=common.TRUST)
    add("--max-cells", type=common.whole, default=experiments.MAX_CELLS, metavar="N", help=common.MAX_CELLS)
    add("--verbose", action="store_true", help="print a line for each shard")
    add("--json", action="store_true", help="print a JSON object at the end")


def run(options: argparse.Namespace) -> int:
    """Run what is missing of a sweep, or say how far it is."""
    if options.status is not None:
        common.check_apply(options, "status", ("max_cells", "json"))
    common.check_options(options, counts=("batch_size", "shard_size", "max_cells"), positive=())
    if options.status is not None:
        return report(experiments.status(options.status, max_cells=options.max_cells), options.json)
    if options.config is None or options.out is None:
        raise ValueError("expected CONFIG and --out FOLDER, or --status FOLDER")
    sweep = experiments.Sweep.load(options.config, options.max_cells)
    if options.allow_code:
        common.look_here()
    executor = common.executor(options)
    with common.spoken(logging.INFO if options.verbose else logging.WARNING):
        try:
            state = experiments.run(
                sweep,
                options.out,
                shard_size=options.shard_size,
                executor=executor,
                progress=sys.stderr.isatty() and not options.verbose,
                allow_code=options.allow_code,
                trust=options.trust,
                max_cells=options.max_cells,
            )
        except KeyboardInterrupt:
            print(
                f"fragile: stopped; finished shards are in {options.out}, and the same command goes on", file=sys.stderr
            )
            raise
    return report(state, options.json)


def report(state: experiments.Status, as_json: bool) -> int:
    """Print how far a sweep is."""
    if as_json:
        facts = {"done": len(state.done), "damaged": len(state.damaged), "shards": len(state.plan.shards)}
        common.print_json(facts | {"seconds": state.seconds, "seconds_left": state.estimate()})
    else:
        print(f"{state.plan.folder}: {state.describe()}")
        for shard, reason in state.damaged.items():
            print(f"  {shard.name} is damaged: {reason}")
    return 0
