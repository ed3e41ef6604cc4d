"""A student's notebook, graded without opening it: in a process of its own, each exercise for a limited time."""

import ast
import json
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path

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
    variables of theirs. It is code of somebody else's: grade what you would run.

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
    with suppress(SyntaxError, ValueError):
        for node in ast.walk(ast.parse(cell)):
            match node:
                case ast.Call(
                    func=ast.Name("grade") | ast.Attribute(attr="grade"), args=[ast.Constant(str(label)), *_]
                ):
                    yield label


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
    with suppress(EOFError):
        while True:
            label = connection.recv()
            connection.send(None)
            connection.send(judge_cells(label, cells, sources, seed))


def judge_cells(label: str, cells: list[str], sources: dict[str, Exercise] | None = None, seed: int = 0) -> Report:
    """Return what the tests of an exercise say of the definitions in some cells, in this process."""
    if label not in (asking.labels() if sources is None else sources):
        return Report(label, note="there is no exercise of this name")
    tests = asking.public_tests(label) if sources is None else execution.collect_tests(sources[label])
    return judge(label, tests, execution.run_definitions(cells), seed)
