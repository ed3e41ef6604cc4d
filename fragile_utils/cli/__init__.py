"""The command ``fragile``: a module for each of its commands, with a parser of its options and what it runs."""

import argparse
import os
import sys

from fragile_utils import __version__
from fragile_utils.cli import attack, fetch, influence, info, report, sweep, train


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status: 0, 2 for wrong input, 130 after an interrupt."""
    options = parser().parse_args(arguments)
    try:
        return options.command(options)
    except ValueError as error:
        print(f"fragile: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `fragile ... | head` closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(prog="fragile", description="Attack the explanations of neural networks.")
    top.add_argument("--version", action="version", version=f"fragile {__version__}")
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in (info, fetch, attack, influence, train, sweep, report):
        command.add_parser(commands)
    return top
