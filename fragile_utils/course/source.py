"""The source of an exercise: one Markdown file that a teacher can write, and everything else is made from.

`load` reads it and checks it; what is wrong with it is one line that says where. Nothing in it is run here.
"""

import math
import re
from collections.abc import Iterator
from pathlib import Path

from fragile_utils.course import kinds
from fragile_utils.course.exercise import Cell, Choice, Estimate, Exercise, Wrong

FIELDS = ("label", "title", "chapter", "kind", "difficulty", "importance", "minutes")
RANGES = {"chapter": (1, 99), "difficulty": (1, 4), "importance": (1, 4), "minutes": (1, 600)}
TEXTS = ("Statement", "Hint", "Solution", "Rubric", "Estimate", "Too low", "Too high")  # sections of text
CODES = ("Stub", "Public tests", "Hidden tests", "Computed", "Given", "Checks")  # sections of one fence of code
NAMED = ("Wrong", "Choice", "Right")  # sections whose heading goes on: "## Choice: under 10 %"
SEVERAL = ("Hint", *NAMED)  # all others stand once


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
    kinds.check_sections(str(fields["kind"]), (name for name, _, body in sections if body))
    parts = {name: body for name, _, body in sections if name not in SEVERAL}
    exercise = Exercise(
        **fields,
        statement=parts["Statement"],
        hints=tuple(body for name, _, body in sections if name == "Hint"),
        solution=tuple(_cells(parts["Solution"])),
        rubric=parts.get("Rubric", ""),
        stub=_code(parts, "Stub"),
        public=_code(parts, "Public tests"),
        hidden=_code(parts, "Hidden tests"),
        wrong=tuple(_wrong(title, body) for name, title, body in sections if name == "Wrong"),
        choices=tuple(
            Choice(title, body, name == "Right") for name, title, body in sections if name in ("Choice", "Right")
        ),
        estimate=_estimate(parts) if "Estimate" in parts else None,
        computed=_code(parts, "Computed"),
        given=_code(parts, "Given"),
        checks=_code(parts, "Checks"),
    )
    kinds.check(exercise)
    return exercise


# --- Pieces of a source ----------------------------------------------------------------------------------------------


def _fields(text: str) -> dict[str, str | int]:
    found: dict[str, str | int] = dict(_values(text, FIELDS))
    for name, (low, high) in RANGES.items():
        value = found[name]
        if not re.fullmatch(r"\d{1,4}", value) or not low <= int(value) <= high:
            raise ValueError(f"{name}: expected a whole number from {low} to {high}, got {value!r}")
        found[name] = int(value)
    if not re.fullmatch(r"ex-[a-z0-9]+(-[a-z0-9]+)*", found["label"]):
        raise ValueError(f"label: expected one like ex-saliency-map, got {found['label']!r}")
    return found


def _values(text: str, names: tuple[str, ...]) -> dict[str, str]:
    """Return the values of lines 'name: value', each of `names` once."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if not colon or name not in names or name in found or not value.strip():
            raise ValueError(f"expected each of {', '.join(names)} once, as 'name: value', got {line!r}")
        found[name] = value.strip()
    if missing := [name for name in names if name not in found]:
        raise ValueError(f"expected the field {missing[0]!r}")
    return found


def _sections(text: str) -> list[tuple[str, str, str]]:
    """Return (name, rest of the heading, body) for each heading of the second level; one within a fence is none."""
    sections: list[tuple[str, str, list[str]]] = []
    for line, fenced in _lines(text):
        if line.startswith("## ") and not fenced:
            heading = line[3:].strip()
            name, colon, title = heading.partition(": ")
            if (name in NAMED) != bool(colon) or name not in TEXTS + CODES + NAMED:
                known = ", ".join([*TEXTS, *CODES, *(f"'{name}: ...'" for name in NAMED)])
                raise ValueError(f"expected a section {known}, got {heading!r}")
            if name not in SEVERAL and name in [other for other, _, _ in sections]:
                raise ValueError(f"expected the section {name!r} once")
            sections.append((name, title, []))
        elif sections:
            sections[-1][2].append(line)
        elif line.strip():
            raise ValueError(f"expected a section first, got {line!r}")
    return [(name, title, "\n".join(lines).strip()) for name, title, lines in sections]


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
        raise ValueError(f"Wrong: {name}: expected a line 'says: words of the message', and one fence ```python")
    return Wrong(name, says[1], cells[1].text)


def _estimate(parts: dict[str, str]) -> Estimate:
    try:
        found = _values(parts["Estimate"], ("value", "within", "unit"))
        value, within = float(found["value"]), float(found["within"])
    except ValueError as error:
        raise ValueError(f"Estimate: {error}") from error
    if not (math.isfinite(value) and math.isfinite(within) and within > 0):
        raise ValueError(f"Estimate: expected a number, within more than 0, got {found['value']}, {found['within']}")
    unit = "" if found["unit"] == "none" else found["unit"]
    return Estimate(value, within, unit, parts.get("Too low", ""), parts.get("Too high", ""))
