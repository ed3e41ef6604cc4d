"""`grade`, as a notebook calls it: finds the student's functions and the tests that everybody may see."""

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import Any

from fragile_utils._base import schema
from fragile_utils.course import _public
from fragile_utils.course.exercise import GENERATOR
from fragile_utils.course.grading import Report, judge, tests_in


def grade(label: str, *answers: Any, **named: Any) -> Report:
    """Return what the public tests of an exercise say of your answer.

    Parameters
    ----------
    label : str
        Of the exercise: "ex-saliency-map".
    *answers, **named
        Functions or classes to grade, in the order in which the exercise names them, or by those names. What is not
        given is looked for where `grade` is called.

    Returns
    -------
    Report
        Which tests passed, and what the first problem is. As the last value of a cell it shows itself.
    """
    if label not in labels():
        asked = schema.printable(str(label))
        near = difflib.get_close_matches(asked, labels(), n=1, cutoff=0)
        return Report(asked, note=f"there is no exercise of this name; did you mean {near[0]!r}?")
    tests = public_tests(label)
    frame = inspect.currentframe()
    caller = frame.f_back if frame is not None else None
    found = {**caller.f_globals, **caller.f_locals} if caller is not None else {}
    asked = dict.fromkeys(name for test in tests for name in inspect.signature(test).parameters if name != GENERATOR)
    offered = found | dict(zip(asked, answers, strict=False)) | named
    return judge(label, tests, {name: offered[name] for name in asked if name in offered})


def labels() -> list[str]:
    """Return the labels of all exercises that can be graded."""
    return [module.name.replace("_", "-") for module in pkgutil.iter_modules(_public.__path__)]


def public_tests(label: str) -> list[Callable]:
    """Return the tests of an exercise that everybody may see."""
    return tests_in(vars(importlib.import_module(f"{_public.__name__}.{label.replace('-', '_')}")))
