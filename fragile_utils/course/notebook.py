"""A student's notebook, graded without opening it: in a process of its own, each exercise for a limited time."""

import ast
import json
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path

from fragile_utils._base import schema
from fragile_utils.course import asking, execution
from fragile_utils.course.exercise import Exercise
from fragile_utils.course.grading import Report, judge


def code_cells(path: Path) -> list[str]:
    """Return the code of a notebook, cell by cell; ValueError if it is none."""
    try:
        cells = json.loads(Path(path).read_text(encoding="utf-8"))["cells"]
        return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise ValueError(f"expected a notebook of Jupyter (nbformat 4), got {path}") from error


def labels_in(cells: list[str]) -> list[str]:
    """Return the labels that a notebook calls `grade` with, each once, in order."""
    return list(dict.fromkeys(label for cell in cells for label in _labels(cell)))


def grade_notebook(
    path: Path, sources: dict[str, Exercise] | None = None, seed: int = 0, timeout: float = 60
) -> Iterator[Report]:
    """Yield what the tests say of each exercise of a notebook.

    What the notebook imports and defines is run, and nothing else: an answer may use helpers of other cells, but no
    variables of theirs. It is code of somebody else's: grade what you would run. What it prints is not shown.

    Parameters
    ----------
    path : Path
    sources : dict of str to Exercise, optional
        Exercises with their hidden tests. Without them the public tests are run.
    seed : int
        Of the numbers that tests draw.
    timeout : float
        Seconds for each exercise.

    Raises
    ------
    ValueError
        If the file is no notebook, or asks for no exercise.
    """
    cells = code_cells(path)
    labels = labels_in(cells)
    if not labels:
        raise ValueError(f'expected a notebook with cells grade("ex-..."), got none in {path}')
    worker = None
    try:
        for label in labels:
            worker = worker or _Worker(cells, sources, seed)
            report, alive = worker.report(label, timeout)
            worker = worker if alive else None
            yield report
    finally:
        if worker is not None:
            worker.end()


def _labels(cell: str) -> Iterator[str]:
    for node in ast.walk(execution.parsed(cell)):
        match node:
            case ast.Call(func=ast.Name("grade") | ast.Attribute(attr="grade"), args=args, keywords=keywords):
                given = [*args[:1], *(keyword.value for keyword in keywords if keyword.arg == "label")]
                for value in given:
                    if isinstance(value, ast.Constant) and isinstance(value.value, str):
                        yield schema.printable(value.value)


class _Worker:
    """A process that grades one exercise after the other. One that hangs is ended, and another takes its place."""

    def __init__(self, cells: list[str], sources: dict[str, Exercise] | None, seed: int):
        context = get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, cells, sources, seed), daemon=True)
        self.process.start()
        theirs.close()

    def report(self, label: str, timeout: float) -> tuple[Report, bool]:
        """Return what the tests say, and whether the process goes on."""
        try:
            self.connection.send(label)
            self.connection.recv()  # it has come up, which does not count
            if self.connection.poll(timeout):
                return self.connection.recv(), True
            note = f"it did not end within {timeout:g} seconds"
        except (EOFError, OSError):
            note = "it ended the process that graded it"
        self.end()
        return Report(label, note=note), False

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def _serve(connection, cells: list[str], sources: dict[str, Exercise] | None, seed: int) -> None:
    _silence(keep=connection.fileno())
    with suppress(EOFError, OSError):  # whoever asks is gone
        while True:
            label = connection.recv()
            connection.send(None)
            connection.send(judge_cells(label, cells, sources, seed))


def _silence(keep: int) -> None:
    """Let this process, and what it starts, read nothing and print to nowhere, but for the descriptor `keep`.

    A command that is called with its input closed may have the connection there.
    """
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in {0, 1, 2} - {keep}:
        os.dup2(nowhere, descriptor)
    sys.stdout = sys.stderr = os.fdopen(nowhere, "w", encoding="utf-8", errors="replace")


def judge_cells(label: str, cells: list[str], sources: dict[str, Exercise] | None = None, seed: int = 0) -> Report:
    """Return what the tests of an exercise say of the definitions in some cells, in this process."""
    if label not in (asking.labels() if sources is None else sources):
        return Report(label, note="there is no exercise of this name")
    tests = asking.public_tests(label) if sources is None else execution.collect_tests(sources[label])
    return judge(label, tests, execution.run_definitions(cells), seed)
