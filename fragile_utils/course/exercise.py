"""An exercise as a value, of one of four kinds: what a source says, and everything else is made from."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass

KINDS = ("write", "predict", "explain", "investigate")
GENERATOR = "generator"  # what a test asks for when it draws numbers


@dataclass(frozen=True)
class Cell:
    """A piece of text (`code` false) or of code."""

    text: str
    code: bool


@dataclass(frozen=True)
class Wrong:
    """A wrong answer that people give.

    Parameters
    ----------
    name : str
        What is wrong with it.
    says : str
        Words that the message of a test has to say of it.
    code : str
        It is run after the reference solution, so that it names only what is wrong.
    """

    name: str
    says: str
    code: str


@dataclass(frozen=True)
class Choice:
    """One of the answers that a prediction offers.

    Parameters
    ----------
    text : str
        Plain text, without mathematics.
    reply : str
        Markdown: what is said to whoever chooses it.
    right : bool
    """

    text: str
    reply: str
    right: bool


@dataclass(frozen=True)
class Estimate:
    """A number that is to be estimated.

    Parameters
    ----------
    value : float
        As readers are told it.
    within : float
        How far an estimate may be from it and still be called right.
    unit : str
        What follows the number: "pixels", "%"; may be empty.
    low, high : str
        Markdown: what is said to whoever is below or above.
    """

    value: float
    within: float
    unit: str
    low: str
    high: str


@dataclass(frozen=True)
class Exercise:
    """One exercise, as its source has it.

    Parameters
    ----------
    label, title : str
    chapter : int
    kind : str
        "write": graded by tests. "predict": answered before it is seen. "explain": in words. "investigate": something
        is run, and reported.
    difficulty, importance : int
        From 1 to 4.
    minutes : int
    statement, rubric : str
        Markdown, as the chapters write it.
    hints : tuple of str
    solution : tuple of Cell
    stub, public, hidden : str
        Code of an exercise to write. `hidden` follows `public` and may use its names.
    wrong : tuple of Wrong
        Of an exercise to write.
    choices : tuple of Choice
        Of a prediction that is chosen.
    estimate : Estimate or None
        Of a prediction that is a number.
    computed : str
        Code of a prediction that finds its answer: `answer`, a truth for each choice, or the number.
    given, checks : str
        Code of an exercise to investigate: what its chapter has at hand, and what holds of what the solution finds.
    """

    label: str
    title: str
    chapter: int
    kind: str
    difficulty: int
    importance: int
    minutes: int
    statement: str
    hints: tuple[str, ...]
    solution: tuple[Cell, ...]
    rubric: str = ""
    stub: str = ""
    public: str = ""
    hidden: str = ""
    wrong: tuple[Wrong, ...] = ()
    choices: tuple[Choice, ...] = ()
    estimate: Estimate | None = None
    computed: str = ""
    given: str = ""
    checks: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The functions and classes that a student writes: those that the stub defines."""
        return tuple(definitions(self.stub))

    @property
    def answer(self) -> str:
        """The code of the reference solution."""
        return "\n\n".join(cell.text for cell in self.solution if cell.code)


def definitions(code: str) -> Iterator[str]:
    """Yield the names of the functions and classes that code defines at its top."""
    for node in ast.parse(code).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
