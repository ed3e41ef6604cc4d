"""The source of an exercise: one Markdown file that a teacher can write, and everything else is made from.

`load` reads it and checks it; what is wrong with it is one line that says where. Nothing in it is run here.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

KINDS = ("write", "predict", "explain", "investigate")
FIELDS = ("label", "title", "chapter", "kind", "difficulty", "importance", "minutes")
RANGES = {"chapter": (1, 99), "difficulty": (1, 4), "importance": (1, 4), "minutes": (1, 600)}
TEXTS = ("Statement", "Hint", "Solution", "Rubric")  # sections of any exercise, of text; several hints may stand
CODES = ("Stub", "Public tests", "Hidden tests")  # sections of an exercise to write
WRONG = "Wrong: "  # how the heading of a wrong answer begins
LONGEST_CELL, LONGEST_LINE = 25, 76  # lines and characters: a stub and a solution become cells of a chapter
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
class Exercise:
    """One exercise, as its source has it.

    Parameters
    ----------
    label, title : str
    chapter : int
    kind : str
        One of "write", "predict", "explain", "investigate". The first is graded by tests, the others by the rubric.
    difficulty, importance : int
        From 1 to 4.
    minutes : int
    statement, rubric : str
        Markdown, as the chapters write it.
    hints : tuple of str
    solution : tuple of Cell
    stub, public, hidden : str
        Code; empty where nothing is to be written. `hidden` follows `public` and may use its names.
    wrong : tuple of Wrong
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

    @property
    def names(self) -> tuple[str, ...]:
        """The functions and classes that a student writes: those that the stub defines."""
        return tuple(definitions(self.stub))

    @property
    def answer(self) -> str:
        """The code of the reference solution."""
        return "\n\n".join(cell.text for cell in self.solution if cell.code)


def load(folder: Path) -> dict[str, Exercise]:
    """Return the exercises of a folder of sources, `NN_name.md`, by their labels, in the order of the file names.

    Raises
    ------
    ValueError
        If a source is not as it should be, two have one label, or there are none.
    """
    found: dict[str, Exercise] = {}
    for path in sorted(Path(folder).glob("[0-9]*.md")):
        try:
            exercise = parse(path.read_text(encoding="utf-8"))
            if exercise.label in found:
                raise ValueError(f"expected labels that differ, got {exercise.label} twice")
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        found[exercise.label] = exercise
    if not found:
        raise ValueError(f"expected a folder with sources of exercises, 01_name.md, got {folder}")
    return found


def parse(text: str) -> Exercise:
    """Return the exercise of a source; ValueError says what is wrong with it, in a line."""
    match = re.match(r"---\n(.*?)^---\n", text, flags=re.MULTILINE | re.DOTALL)
    if match is None:
        raise ValueError("expected the fields of the exercise first, between two lines of ---")
    fields = _fields(match[1])
    sections = _sections(text[match.end() :])
    hints = tuple(body for name, body in sections if name == "Hint")
    parts = {name: body for name, body in sections if name != "Hint" and not name.startswith(WRONG)}
    for needed in ("Statement", "Solution", *(CODES if fields["kind"] == "write" else ("Rubric",))):
        if not parts.get(needed):
            raise ValueError(f"expected a section '## {needed}'")
    exercise = Exercise(
        **fields,
        statement=parts["Statement"],
        hints=hints,
        solution=tuple(_cells(parts["Solution"])),
        rubric=parts.get("Rubric", ""),
        stub=_code(parts, "Stub"),
        public=_code(parts, "Public tests"),
        hidden=_code(parts, "Hidden tests"),
        wrong=tuple(_wrong(name.removeprefix(WRONG), body) for name, body in sections if name.startswith(WRONG)),
    )
    if exercise.kind == "write":
        _check(exercise)
    return exercise


def definitions(code: str) -> Iterator[str]:
    """Yield the names of the functions and classes that code defines at its top."""
    for node in ast.parse(code).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name


# --- Pieces of a source ----------------------------------------------------------------------------------------------


def _fields(text: str) -> dict[str, str | int]:
    found: dict[str, str | int] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if not colon or name not in FIELDS or name in found or not value.strip():
            raise ValueError(f"expected each of {', '.join(FIELDS)} once, as 'name: value', got {line!r}")
        found[name] = value.strip()
    if missing := [name for name in FIELDS if name not in found]:
        raise ValueError(f"expected the field {missing[0]!r}")
    for name, (low, high) in RANGES.items():
        value = found[name]
        if not re.fullmatch(r"\d{1,4}", value) or not low <= int(value) <= high:
            raise ValueError(f"{name}: expected a whole number from {low} to {high}, got {value!r}")
        found[name] = int(value)
    if found["kind"] not in KINDS:
        raise ValueError(f"kind: expected one of {', '.join(KINDS)}, got {found['kind']!r}")
    if not re.fullmatch(r"ex-[a-z0-9]+(-[a-z0-9]+)*", found["label"]):
        raise ValueError(f"label: expected one like ex-saliency-map, got {found['label']!r}")
    return found


def _sections(text: str) -> list[tuple[str, str]]:
    """Return the headings of the second level and what stands below each; a `## ` within a fence is none."""
    sections: list[tuple[str, list[str]]] = []
    for line, fenced in _lines(text):
        if line.startswith("## ") and not fenced:
            name = line[3:].strip()
            if name not in TEXTS + CODES and not name.startswith(WRONG):
                raise ValueError(f"expected a section {', '.join(TEXTS + CODES)} or '{WRONG}...', got {name!r}")
            if name != "Hint" and name in [other for other, _ in sections]:
                raise ValueError(f"expected the section {name!r} once")
            sections.append((name, []))
        elif sections:
            sections[-1][1].append(line)
        elif line.strip():
            raise ValueError(f"expected a section first, got {line!r}")
    return [(name, "\n".join(lines).strip()) for name, lines in sections]


def _lines(text: str) -> Iterator[tuple[str, bool]]:
    """Yield each line, and whether it is in a fence or bounds one."""
    fence = ""
    for line in text.splitlines():
        marks = re.match(r"`{3,}", line)
        yield line, bool(fence or marks)
        if marks and not fence:
            fence = marks[0]
        elif fence and line.rstrip() == fence:
            fence = ""
    if fence:
        raise ValueError(f"expected {fence} at the end of a fence, got the end of the file")


def _cells(text: str) -> Iterator[Cell]:
    """Yield the text and the code of a section, in turn."""
    for i, part in enumerate(re.split(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)):
        if part.strip():
            yield Cell(part.strip("\n"), code=i % 2 == 1)


def _code(parts: dict[str, str], name: str) -> str:
    """Return the code of a section that holds one fence of code and nothing else, or nothing if there is no section."""
    cells = list(_cells(parts.get(name, "")))
    if cells and (len(cells) != 1 or not cells[0].code):
        raise ValueError(f"{name}: expected one fence ```python and nothing else")
    return cells[0].text if cells else ""


def _wrong(name: str, body: str) -> Wrong:
    cells = list(_cells(body))
    says = re.fullmatch(r"says: *(\S.*)", cells[0].text.strip()) if cells else None
    if says is None or len(cells) != 2:
        raise ValueError(f"{WRONG}{name}: expected a line 'says: words of the message', and one fence ```python")
    return Wrong(name, says[1], cells[1].text)


# --- What an exercise to write has to have ---------------------------------------------------------------------------


def _check(exercise: Exercise) -> None:
    codes = {"Stub": exercise.stub, "Public tests": exercise.public, "Hidden tests": exercise.hidden}
    codes["Solution"] = exercise.answer
    codes |= {f"{WRONG}{wrong.name}": wrong.code for wrong in exercise.wrong}
    for name, code in codes.items():
        try:
            ast.parse(code)
        except SyntaxError as error:
            raise ValueError(f"{name}: expected Python, got {error.msg} in its line {error.lineno}") from error
    names = {*exercise.names}
    if not names:
        raise ValueError("Stub: expected a function or a class to write")
    if missing := names - {*definitions(exercise.answer)}:
        raise ValueError(f"Solution: expected {min(missing)}, which the stub asks for")
    if len(exercise.wrong) < 2:
        raise ValueError(f"expected at least two sections '## {WRONG}...', got {len(exercise.wrong)}")
    for wrong in exercise.wrong:
        if not names & {*definitions(wrong.code)}:
            raise ValueError(f"{WRONG}{wrong.name}: expected one of {', '.join(sorted(names))}, got none")
    if not exercise.hints:
        raise ValueError("expected at least one section '## Hint'")
    for cell in (Cell(exercise.stub, True), *(cell for cell in exercise.solution if cell.code)):
        if (lines := len(cell.text.splitlines())) > LONGEST_CELL:
            raise ValueError(f"expected stubs and solutions of at most {LONGEST_CELL} lines a cell, got {lines}")
        if long := [line for line in cell.text.splitlines() if len(line) > LONGEST_LINE]:
            raise ValueError(
                f"expected stubs and solutions of at most {LONGEST_LINE} characters a line, got {long[0]!r}"
            )
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
