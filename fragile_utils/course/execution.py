"""The one place where code of sources and of students' notebooks is run: the tests, the answers, and nothing else."""

import ast
import builtins
import linecache
import os
from collections.abc import Callable, Iterable
from contextlib import redirect_stderr, redirect_stdout, suppress
from typing import Any

from fragile_utils.claims import check
from fragile_utils.course.exercise import Exercise
from fragile_utils.course.grading import Report, judge, tests_in


def run_code(code: str, name: str, namespace: dict[str, Any] | None = None) -> dict[str, Any]:
    """Run code and return its namespace; errors in it can show its lines, under the file name `<name>`."""
    namespace = {"__name__": "__main__", "__builtins__": builtins} if namespace is None else namespace
    exec(_compiled(code, name), namespace)
    return namespace


def collect_tests(exercise: Exercise, hidden: bool = True) -> list[Callable]:
    """Return the tests of an exercise as functions: the public ones, and the hidden ones if asked for."""
    namespace = run_code(exercise.public, f"{exercise.label}, public tests")
    if hidden:
        run_code(exercise.hidden, f"{exercise.label}, hidden tests", namespace)
    return tests_in(namespace)


def judge_code(exercise: Exercise, codes: Iterable[str], seed: int = 0, hidden: bool = True) -> Report:
    """Return what the tests of an exercise say of answers that are given as code, run in turn."""
    answers: dict[str, Any] = {"__name__": "__main__"}
    for i, code in enumerate(codes):
        run_code(code, f"{exercise.label}, answer {i}", answers)
    return judge(exercise.label, collect_tests(exercise, hidden), answers, seed)


def compute_answer(exercise: Exercise) -> Any:
    """Return what the code of a prediction calls `answer`: a truth for each choice, or the number."""
    namespace = run_code(exercise.computed, f"{exercise.label}, computed")
    if "answer" not in namespace:
        raise ValueError(f"{exercise.label}: expected the code of '## Computed' to define `answer`")
    return namespace["answer"]


def investigate(exercise: Exercise) -> dict[str, Any]:
    """Run what the chapter has at hand, the solution and its checks; a check that fails raises ClaimError."""
    namespace = run_code("", exercise.label) | {"check": check}
    for name, code in (("given", exercise.given), ("solution", exercise.answer), ("checks", exercise.checks)):
        run_code(code, f"{exercise.label}, {name}", namespace)
    return namespace


def run_definitions(cells: Iterable[str]) -> dict[str, Any]:
    """Run what a notebook imports and defines, and nothing else of it; what it prints is not shown.

    Of each cell, imports, functions and classes are run. A cell that is no Python, such as one with a `%`, is left out,
    and so is a definition that needs what no other one defines.
    """
    namespace: dict[str, Any] = {"__name__": "__main__", "__builtins__": builtins}
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        for i, cell in enumerate(cells):
            for statement in definitions_in(cell):
                with suppress(Exception):
                    tree = ast.Module([statement], type_ignores=[])
                    exec(_compiled(cell, f"cell {i}", tree), namespace)
    return namespace


def definitions_in(cell: str) -> list[ast.stmt]:
    """Return the statements of a cell that import or define something."""
    try:
        body = ast.parse(cell).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    kinds = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
    return [statement for statement in body if isinstance(statement, kinds)]


def _compiled(code: str, name: str, tree: ast.Module | None = None) -> Any:
    file = f"<{name}>"
    linecache.cache[file] = len(code), None, code.splitlines(keepends=True), file
    return compile(code if tree is None else tree, file, "exec")
