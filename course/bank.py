"""The bank of examination questions: `part_1.py` to `part_6.py` hold them, `make course SEED=...` prints them.

A question is a function of a source of random numbers. What it returns is said once with the numbers that it has drawn;
an answer in numbers is computed from the same numbers. The seed is the instructor's, and is not in the repository.
"""

import importlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field

PARTS = {
    1: "Intuition",
    2: "Explanations",
    3: "Attacks",
    4: "Examples as explanations",
    5: "Why",
    6: "How far it reaches",
}


@dataclass(frozen=True, init=False)
class Asked:
    """A question with its numbers, and its answer.

    Parameters
    ----------
    text : str
        The question, in Markdown.
    *steps : str
        The answer, step by step, each with its points before a colon: "2: What earns them."
    value : float, optional
        What is to be computed, where the answer is a number.
    given : keywords
        The numbers that were drawn.
    """

    text: str
    steps: tuple[tuple[int, str], ...]
    value: float | None = None
    given: dict = field(default_factory=dict)

    def __init__(self, text, *steps, value=None, **given):
        parted = tuple((int(points), step) for points, step in (step.split(": ", 1) for step in steps))
        for name, part in {"text": text, "steps": parted, "value": value, "given": given}.items():
            object.__setattr__(self, name, part)

    @property
    def points(self) -> int:
        return sum(points for points, _ in self.steps)


@dataclass(frozen=True)
class Question:
    """A question of the bank: its name, its chapter, and the function that draws it."""

    name: str
    chapter: int
    part: int
    make: Callable[[random.Random], Asked]

    def draw(self, seed: int) -> Asked:
        """The question with the numbers of a seed, which other questions do not change."""
        return self.make(random.Random(f"{seed} {self.name}"))


BANK: dict[str, Question] = {}


def question(chapter: int) -> Callable:
    """Enter the function below into the bank, under its name."""

    def enter(make):
        if make.__name__ in BANK:
            raise ValueError(f"expected each question to have a name of its own, got {make.__name__!r} twice")
        part = int(make.__module__.rpartition("_")[2])
        BANK[make.__name__] = Question(make.__name__, chapter, part, make)
        return make

    return enter


def load() -> list[Question]:
    """Every question, in the order of the book."""
    for part in PARTS:
        importlib.import_module(f"part_{part}")
    return sorted(BANK.values(), key=lambda entry: entry.chapter)


def say(value: float) -> str:
    """A number as an answer states it, with three digits that count."""
    return f"{value:.3g}"


def vector(values) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"


def matrix(rows) -> str:
    inner = r" \\ ".join(" & ".join(f"{value:g}" for value in row) for row in rows)
    return rf"$\begin{{pmatrix}} {inner} \end{{pmatrix}}$"


def as_markdown(seed: int, answers: bool) -> str:
    """The bank on one page: the questions, or what to grade them by."""
    lines = ["# Examination questions" + (": answers" if answers else ""), "", f"Numbers drawn from the seed {seed}."]
    part = None
    for number, entry in enumerate(load(), 1):
        if entry.part != part:
            part = entry.part
            lines += ["", f"## {PARTS[part]}"]
        asked = entry.draw(seed)
        lines += ["", f"**{number}.** (chapter {entry.chapter}, {asked.points} points) {asked.text}"]
        if answers:
            lines += ["", *(f"- **{points}** {step}" for points, step in asked.steps)]
    return "\n".join(lines) + "\n"
