"""What an exercise of each kind has to have: ValueError says what is missing or wrong, in a line."""

import ast
import re
from collections.abc import Iterable

from fragile_utils.course.exercise import GENERATOR, KINDS, Exercise, definitions

LONGEST_CELL, LONGEST_LINE = 25, 76  # lines and characters: what becomes cells of a chapter
NEEDED = {  # sections
    "write": ("Statement", "Stub", "Public tests", "Hidden tests", "Solution"),
    "predict": ("Statement", "Computed", "Solution"),
    "explain": ("Statement", "Solution", "Rubric"),
    "investigate": ("Statement", "Solution", "Checks", "Rubric"),
}
ALLOWED = {  # sections beside these; of every kind there may be hints
    "write": ("Wrong", "Rubric"),
    "predict": ("Choice", "Right", "Estimate", "Too low", "Too high"),
    "explain": (),
    "investigate": ("Given",),
}


def check_sections(kind: str, filled: Iterable[str]) -> None:
    """Check that the sections that are there, and not empty, are those of a kind."""
    if kind not in KINDS:
        raise ValueError(f"kind: expected one of {', '.join(KINDS)}, got {kind!r}")
    filled = set(filled)
    for needed in NEEDED[kind]:
        if needed not in filled:
            raise ValueError(f"expected a section '## {needed}'")
    if others := filled - {*NEEDED[kind], *ALLOWED[kind], "Hint"}:
        raise ValueError(f"expected no section '## {min(others)}' in an exercise to {kind}")


def check(exercise: Exercise) -> None:
    """Check the parts of an exercise against each other."""
    _check_python(exercise)
    _check_length(exercise)
    {"write": _write, "predict": _predict, "explain": _explain, "investigate": _investigate}[exercise.kind](exercise)


def _check_python(exercise: Exercise) -> None:
    codes = {"Stub": exercise.stub, "Public tests": exercise.public, "Hidden tests": exercise.hidden}
    codes |= {"Solution": exercise.answer, "Computed": exercise.computed}
    codes |= {"Given": exercise.given, "Checks": exercise.checks}
    codes |= {f"Wrong: {wrong.name}": wrong.code for wrong in exercise.wrong}
    for name, code in codes.items():
        try:
            ast.parse(code)
        except SyntaxError as error:
            raise ValueError(f"{name}: expected Python, got {error.msg} in its line {error.lineno}") from error


def _check_length(exercise: Exercise) -> None:
    for code in (exercise.stub, exercise.checks, *(cell.text for cell in exercise.solution if cell.code)):
        lines = code.splitlines()
        if len(lines) > LONGEST_CELL:
            raise ValueError(f"expected code of a chapter of at most {LONGEST_CELL} lines a cell, got {len(lines)}")
        if long := [line for line in lines if len(line) > LONGEST_LINE]:
            raise ValueError(f"expected code of a chapter of at most {LONGEST_LINE} characters a line, got {long[0]!r}")


def _write(exercise: Exercise) -> None:
    names = {*exercise.names}
    if not names:
        raise ValueError("Stub: expected a function or a class to write")
    if missing := names - {*definitions(exercise.answer)}:
        raise ValueError(f"Solution: expected {min(missing)}, which the stub asks for")
    if len(exercise.wrong) < 2:
        raise ValueError(f"expected at least two sections '## Wrong: ...', got {len(exercise.wrong)}")
    for wrong in exercise.wrong:
        if not names & {*definitions(wrong.code)}:
            raise ValueError(f"Wrong: {wrong.name}: expected one of {', '.join(sorted(names))}, got none")
    if not exercise.hints:
        raise ValueError("expected at least one section '## Hint'")
    _check_tests("Public tests", exercise.public, names)
    _check_tests("Hidden tests", exercise.hidden, names)


def _check_tests(section: str, code: str, names: set[str]) -> None:
    tests = [n for n in ast.parse(code).body if isinstance(n, ast.FunctionDef) and n.name.startswith("test_")]
    if not tests:
        raise ValueError(f"{section}: expected at least one function test_...")
    for test in tests:
        if not ast.get_docstring(test):
            raise ValueError(f"{section}: expected what {test.name} tests, as its docstring")
        asked = {argument.arg for argument in test.args.args}
        if unknown := asked - names - {GENERATOR}:
            raise ValueError(f"{section}: {test.name} asks for {min(unknown)}, which no stub defines")
        if not asked & names:
            raise ValueError(f"{section}: expected {test.name} to ask for one of {', '.join(sorted(names))}")


def _predict(exercise: Exercise) -> None:
    if bool(exercise.choices) == (exercise.estimate is not None):
        raise ValueError("expected either sections '## Choice: ...' with one '## Right: ...', or '## Estimate'")
    if any(cell.code for cell in exercise.solution):
        raise ValueError("Solution: expected words; what computes the answer stands in '## Computed'")
    if exercise.estimate is not None:
        parts = {"Too low": exercise.estimate.low, "Too high": exercise.estimate.high}
        if empty := [name for name, reply in parts.items() if not reply]:
            raise ValueError(f"expected a section '## {empty[0]}', a reply to whoever is off")
        return
    if (right := sum(choice.right for choice in exercise.choices)) != 1:
        raise ValueError(f"expected one section '## Right: ...', got {right}")
    if len(exercise.choices) < 3:
        raise ValueError(f"expected at least three choices, got {len(exercise.choices)}")
    for choice in exercise.choices:
        if not choice.reply:
            raise ValueError(f"{choice.text}: expected a reply to whoever chooses it")
        if re.search(r"[$`*<{]", choice.text):
            raise ValueError(f"expected choices of plain text, got {choice.text!r}")
    if len({choice.reply for choice in exercise.choices}) < len(exercise.choices):
        raise ValueError("expected a reply of its own for each choice, got one twice")


def _explain(exercise: Exercise) -> None:
    if exercise.answer:
        raise ValueError("Solution: expected words; an exercise with code is one to investigate")


def _investigate(exercise: Exercise) -> None:
    if not exercise.answer:
        raise ValueError("Solution: expected code that is run, in a fence ```python")
    if exercise.solution[-1].code:
        raise ValueError("Solution: expected what is found, in words, at its end")
    called = {node.func.id for node in ast.walk(ast.parse(exercise.checks)) if _is_call(node)}
    if "check" not in called:
        raise ValueError("Checks: expected a call of check(...)")


def _is_call(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
