"""The command ``fragile``: a module for each of its commands, with a parser of its options and what it runs."""

import argparse
import os
import sys

from fragile_utils import __version__
from fragile_utils._base.memory import out_of_memory
from fragile_utils.cli import _common as common
from fragile_utils.cli import attack, audit, fetch, grade, influence, info, laboratory, report, sweep, train

LONGEST = 1000  # characters of an error
WRONG_INPUT, MISTAKE, INTERRUPTED = 2, 1, 130  # exit statuses


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status.

    0; 2 for wrong input, and for what the machine does not give: files, memory, numbers that large; 1 for a mistake in
    the package; 130 after an interrupt. An error is one line. A mistake is one too, with its type, since the traceback
    says nothing to whom it meets: those who look for it call the command again with ``--traceback``, an option and not
    a variable of the environment, so that the line that is reported says how to get it.
    """
    options = _parsed(arguments)
    try:
        common.check_empty(options)
        return options.command(options)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # `fragile ... | head` closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if options.traceback:
            raise
        said, status = explain(error)
        line = " ".join(said.split())
        line = line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} ... {line[-LONGEST // 4 :]}"
        print(f"fragile: error: {line}", file=sys.stderr)
        return status


def explain(error: Exception) -> tuple[str, int]:
    """Return what is said of an error, and the exit status."""
    said = str(error)
    if isinstance(error, UnicodeEncodeError):
        return f"{error.object[error.start : error.end]!a} cannot be written in {error.encoding}", WRONG_INPUT
    if isinstance(error, ValueError):
        return said, WRONG_INPUT
    if isinstance(error, OSError):
        reason = error.strerror or said
        return f"{reason}: {error.filename}" if error.filename is not None else reason, WRONG_INPUT
    if out_of_memory(error):
        return f"out of memory; fewer or smaller images at a time need less ({said or 'MemoryError'})", WRONG_INPUT
    if isinstance(error, RecursionError):
        return f"something is nested too deep ({said})", WRONG_INPUT
    if isinstance(error, OverflowError):
        return f"a number is too large ({said})", WRONG_INPUT
    if isinstance(error, RuntimeError):  # PyTorch's, at what it does not compute
        return f"PyTorch cannot compute this: {said}; fragile --traceback COMMAND ... shows where", WRONG_INPUT
    kind = type(error).__name__
    return f"{kind}: {said}; a mistake of this package: fragile --traceback COMMAND ... shows where", MISTAKE


def _parsed(arguments: list[str] | None) -> argparse.Namespace:
    """Return the options, or exit with 2; to whom gives images without an option, it is named."""
    top = parser()
    options, rest = top.parse_known_args(arguments)
    if rest:
        images = {"model", "data"} <= vars(options).keys() and not rest[0].startswith("-")
        way_out = f"; images are given by --data {rest[0]}" if images else ""
        top.error(f"unrecognized arguments: {' '.join(rest)}{way_out}")
    return options


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(prog="fragile", description="Attack the explanations of neural networks.")
    top.add_argument("--version", action="version", version=f"fragile {__version__}")
    top.add_argument("--traceback", action="store_true", help="let an error show where it came from (for reports)")
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in (info, fetch, attack, audit, influence, train, sweep, report, laboratory, grade):
        command.add_parser(commands)
    return top
