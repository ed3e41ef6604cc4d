"""Exercises answered by code: what the tests of the sources run beside what `grade` runs."""

from typing import Any

from fragile_utils.claims import check
from fragile_utils.course import Exercise, Report, judge
from fragile_utils.course.execution import collect_tests, run_code


def judged(exercise: Exercise, *codes: str, seed: int = 0, hidden: bool = True) -> Report:
    """Return what the tests of an exercise say of answers that are given as code, run in turn."""
    answers: dict[str, Any] = {"__name__": "__main__"}
    for i, code in enumerate(codes):
        run_code(code, f"{exercise.label}, answer {i}", answers)
    return judge(exercise.label, collect_tests(exercise, hidden), answers, seed)


def computed(exercise: Exercise) -> Any:
    """Return what the code of a prediction calls `answer`: a truth for each choice, or the number."""
    return run_code(exercise.computed, f"{exercise.label}, computed")["answer"]


def investigated(exercise: Exercise) -> dict[str, Any]:
    """Run what the chapter has at hand, the solution and its checks; a check that fails raises ClaimError."""
    namespace = run_code("", exercise.label) | {"check": check}
    for name, code in (("given", exercise.given), ("solution", exercise.answer), ("checks", exercise.checks)):
        run_code(code, f"{exercise.label}, {name}", namespace)
    return namespace
