"""The one place where code of sources and of students' notebooks is run: tests, definitions, and nothing else."""

import ast
import builtins
import linecache
import os
from collections.abc import Callable, Iterable
from contextlib import redirect_stderr, redirect_stdout, suppress
from typing import Any

from fragile_utils.course.exercise import Exercise
from fragile_utils.course.grading import tests_in


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
    kinds = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
    return [statement for statement in parsed(cell).body if isinstance(statement, kinds)]


def parsed(cell: str) -> ast.Module:
    """Return the tree of a cell, an empty one if it is no Python or nested too deep."""
    try:
        return ast.parse(cell)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ast.Module([], type_ignores=[])


def _compiled(code: str, name: str, tree: ast.Module | None = None) -> Any:
    file = f"<{name}>"
    linecache.cache[file] = len(code), None, code.splitlines(keepends=True), file
    return compile(code if tree is None else tree, file, "exec")
