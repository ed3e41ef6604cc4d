"""Answers to an exercise, and what its tests say of them."""

import html
import inspect
import linecache
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch

from fragile_utils._base import schema
from fragile_utils.course.exercise import GENERATOR

LONGEST = 600  # characters of a message
THEIRS = {  # what it means for those who meet these errors for the first time
    "does not require grad and does not have a grad_fn": "nothing keeps a graph here: was a tensor detached, or was "
    "create_graph=True forgotten?",
    "appears to not have been used in the graph": "what is differentiated does not depend on that tensor",
    "backward through the graph a second time": "a graph is gone when it has been used: retain_graph=True keeps it",
    "grad can be implicitly created only for scalar outputs": "only a number has a gradient: add up first",
    "Can't call numpy() on Tensor that requires grad": "no gradient passes through NumPy: stay in PyTorch",
    "dictionary changed size during iteration": "what the loop goes over is changed in it: go over a list of it",
}


@dataclass(frozen=True)
class Outcome:
    """What one test said: `tests`, what it looks at, and `problem`, what is wrong, empty if nothing is."""

    tests: str
    problem: str


@dataclass(frozen=True)
class Report:
    """What the tests of an exercise said. It shows itself, in a notebook and as text.

    Attributes
    ----------
    label : str
        Of the exercise.
    outcomes : tuple of Outcome
        One for each test that was run.
    note : str
        Why none was run, where none was: nothing is written yet, or there is no such exercise.
    """

    label: str
    outcomes: tuple[Outcome, ...] = ()
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether there is an answer and no test found fault with it."""
        return not self.note and not any(outcome.problem for outcome in self.outcomes)

    @property
    def score(self) -> float:
        """The share of tests that passed; 0 without an answer."""
        return sum(not outcome.problem for outcome in self.outcomes) / max(len(self.outcomes), 1)

    @property
    def first(self) -> str:
        """The line that says it all."""
        if self.note:
            return f"○ {self.label}: {self.note}"
        good = sum(not outcome.problem for outcome in self.outcomes)
        return f"{'✓' if self.passed else '✗'} {self.label}: {good} of {len(self.outcomes)} tests passed"

    @property
    def problem(self) -> Outcome | None:
        """The first outcome that is a problem: the one to mend first, of which the report says what it is."""
        return next((outcome for outcome in self.outcomes if outcome.problem), None)

    def __repr__(self) -> str:
        lines = [self.first]
        for outcome in self.outcomes:
            lines.append(f"  {_mark(outcome)} {outcome.tests}")
            if outcome is self.problem:
                lines.append(f"    → {outcome.problem}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        tests = ""
        for outcome in self.outcomes:
            said = f"<p>→ {html.escape(outcome.problem)}</p>" if outcome is self.problem else ""
            tests += f"<li>{_mark(outcome)} {html.escape(outcome.tests)}{said}</li>"
        lines = f"<p>{html.escape(self.first)}</p>{f'<ul>{tests}</ul>' if tests else ''}"
        return f'<div class="fragile-grade">{lines}</div>'


def _mark(outcome: Outcome) -> str:
    return "✗" if outcome.problem else "✓"


def tests_in(namespace: Mapping[str, Any]) -> list[Callable]:
    """Return the functions ``test_...`` of a namespace, in the order in which they were defined."""
    return [value for name, value in namespace.items() if name.startswith("test_") and inspect.isfunction(value)]


def judge(label: str, tests: Sequence[Callable], answers: Mapping[str, Any], seed: int = 0) -> Report:
    """Return what `tests` say of `answers`.

    Parameters
    ----------
    label : str
    tests : sequence of functions
        Each takes answers by their names, and `generator` if it draws numbers, and raises AssertionError with what is
        wrong.
    answers : mapping of str to object
        Functions and classes, by name.
    seed : int
        Of the numbers that tests draw.
    """
    needed = {name: None for test in tests for name in inspect.signature(test).parameters if name != GENERATOR}
    if missing := [name for name in needed if name not in answers]:
        return Report(label, note=f"there is no `{missing[0]}` yet: run the cell that defines it, and this one again")
    outcomes = []
    for test in tests:
        try:
            problem = _problem(test, answers, seed)
        except NotImplementedError:
            return Report(label, note="not written yet")
        outcomes.append(Outcome((test.__doc__ or test.__name__).strip(), problem))
    return Report(label, tuple(outcomes))


def _problem(test: Callable, answers: Mapping[str, Any], seed: int) -> str:
    """Return what a test finds wrong. A NotImplementedError without words is that of a stub, and passes through."""
    asked = {name: answers.get(name) for name in inspect.signature(test).parameters}
    if GENERATOR in asked:
        asked[GENERATOR] = torch.Generator().manual_seed(seed)
    try:
        # A global random number that an answer draws is nobody else's, and what PyTorch warns of is no news here.
        with torch.random.fork_rng(devices=[]), torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.default_generator.manual_seed(seed)
            test(**asked)
    except NotImplementedError as error:
        if not str(error):
            raise
        return _shown(_explain(error, answers))
    except Exception as error:
        return _shown(_explain(error, answers))
    return ""


def _explain(error: Exception, answers: Mapping[str, Any]) -> str:
    """Return what is said of an error: a test's own words, or where in the answer it arose. No traceback of ours."""
    said = " ".join(str(error).split())
    where = _answers_line(error.__traceback__, answers)
    if isinstance(error, AssertionError) and not where:
        return said
    kind = type(error).__name__
    said += "".join(f"; {words}" for theirs, words in THEIRS.items() if theirs in said)
    if isinstance(error, TypeError) and not where and any(said.startswith(f"{name}()") for name in answers):
        return f"it does not take what the stub takes: {said}"
    if where:
        return f"your code stopped with {kind}: {said} (line {where[0]}: `{where[1]}`)"
    return f"what your code returned could not be used: {kind}: {said}"


def _answers_line(traceback: TracebackType | None, answers: Mapping[str, Any]) -> tuple[int, str] | None:
    """Return the number and the text of the innermost line of an answer that a traceback goes through."""
    files = {code.co_filename for code in map(_code, answers.values()) if code is not None}
    found = None
    while traceback is not None:
        frame = traceback.tb_frame
        if frame.f_code.co_filename in files:
            line = linecache.getline(frame.f_code.co_filename, traceback.tb_lineno, frame.f_globals).strip()
            found = traceback.tb_lineno, line
        traceback = traceback.tb_next
    return found


def _code(answer: Any) -> Any:
    if inspect.isclass(answer):
        methods = (getattr(value, "__code__", None) for value in vars(answer).values())
        return next((code for code in methods if code is not None), None)
    return getattr(inspect.unwrap(answer) if callable(answer) else answer, "__code__", None)


def _shown(text: str) -> str:
    """Return text as a line shows it: not too long, and what cannot be seen as its code."""
    text = schema.printable(text[: LONGEST + 1])
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."
