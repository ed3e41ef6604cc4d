"""Exercises, from their sources in book/exercises to where they are met. `make exercises` does both of these:

- In a chapter, the block of an exercise: card, stub, the call of `grade`, folded hints, folded solution with its
  checks; of a prediction, the question and its folded answers (predict_blocks.py). A new one stands where a Markdown
  cell holds nothing but its label. Those that are there already are written again.
- In the package, the public tests, fragile_utils/course/_public, where `grade` finds them, on Colab too.
"""

import hashlib
import json
import sys
from pathlib import Path

import predict_blocks
import repository_url

from fragile_utils.course import load

ROOT = repository_url.ROOT
SOURCES = Path("book", "exercises")
PUBLIC = Path("fragile_utils", "course", "_public")
MARK = "exercise"  # the metadata of a cell that this file writes: [label, part]


def carry(root=ROOT):
    """Write what has to be written again, and return which files those are."""
    exercises = load(root / SOURCES)
    wanted = {root / PUBLIC / f"{label.replace('-', '_')}.py": module(e) for label, e in exercises.items() if e.public}
    wanted[root / PUBLIC / "__init__.py"] = OF_PUBLIC
    for path in sorted(root.glob("chapters/*.ipynb")):
        notebook = read(path)
        cells = placed(notebook["cells"], exercises)
        if cells != notebook["cells"]:
            wanted[path] = as_text(notebook | {"cells": cells})
    changed = [path for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path in changed:
        path.write_text(wanted[path], encoding="utf-8", newline="\n")
    stale = [path for path in (root / PUBLIC).glob("*.py") if path not in wanted]
    for path in stale:
        path.unlink()
    return [str(path.relative_to(root)) for path in changed + stale]


# --- The public tests ------------------------------------------------------------------------------------------------

OF_PUBLIC = '''\
"""The tests of the exercises that everybody may see, one file each. `make exercises` writes them: book/exercises."""

__all__: list[str] = []
'''


def module(exercise):
    """The public tests of an exercise, as a module."""
    first = f'"""Public tests of {exercise.label}. Written by `make exercises` from book/exercises."""'
    return f"{first}\n\n{exercise.public}\n"


# --- The block in a chapter ------------------------------------------------------------------------------------------


def placed(cells, exercises):
    """The cells of a chapter, with the blocks of the exercises that stand in it."""
    result, done = [], set()
    for cell in cells:
        label = label_of(cell) or "".join(cell["source"]).strip()
        if label in exercises and (label_of(cell) or cell["cell_type"] == "markdown"):
            if label not in done:
                result += block(exercises[label])
            done.add(label)
        elif label_of(cell) is None:
            result.append(cell)
    return result


def label_of(cell):
    """The exercise that a cell belongs to, if `carry` has written it."""
    return cell["metadata"].get(MARK, [None])[0]


def part_of(cell):
    """Which part of a block a cell is: card, stub, grade, hints, solution."""
    return cell["metadata"].get(MARK, [None, None])[1]


def block(exercise):
    """The cells of an exercise in its chapter."""
    if exercise.kind == "predict":
        return [text(exercise, "card", predict_blocks.as_markdown(exercise))]
    title = f"```{{exercise-start}} {exercise.title}\n:label: {exercise.label}\n```"
    first = f"{title}\n\n{card(exercise)}\n\n{exercise.statement}"
    if exercise.stub:
        cells = [text(exercise, "card", first), *asked(exercise)]
        cells.append(text(exercise, "hints", "\n\n".join([*hints(exercise), "```{exercise-end}\n```"])))
    else:
        cells = [text(exercise, "card", "\n\n".join([first, *hints(exercise), "```{exercise-end}\n```"]))]
    return cells + solution(exercise)


def solution(exercise):
    """The cells of the folded solution; what tests it stands below its last code."""
    pieces = [text(exercise, "solution", f"```{{solution-start}} {exercise.label}\n:class: dropdown\n```")]
    for i, piece in enumerate(exercise.solution):
        make = code if piece.code else text
        pieces.append(make(exercise, "solution", piece.text, f"solution {i}"))
    last = max((i for i, cell in enumerate(pieces) if cell["cell_type"] == "code"), default=0)
    if exercise.stub:
        pieces.insert(last + 1, code(exercise, "solution", call(exercise), "solution grade"))
    if exercise.checks:
        pieces.insert(last + 1, checking(exercise))
    end = "```{solution-end}\n```"
    if pieces[-1]["cell_type"] == "markdown":
        pieces[-1]["source"] = lines("".join(pieces[-1]["source"]) + f"\n\n{end}")
    else:
        pieces.append(text(exercise, "solution", end, "solution end"))
    return pieces


def checking(exercise):
    """The cell with the checks of a solution, folded as in the rest of a chapter."""
    made = code(exercise, "solution", exercise.checks, "solution checks")
    made["metadata"] |= {"tags": ["check", "hide-input"], "jupyter": {"source_hidden": True}}
    return made


def asked(exercise):
    """The two cells of code that a student meets: the stub, and the call of `grade`."""
    return [code(exercise, "stub", exercise.stub), code(exercise, "grade", call(exercise))]


def card(exercise):
    """How an exercise introduces itself, in a line that can be read aloud."""
    return (
        f"*{exercise.kind.capitalize()}. Difficulty {exercise.difficulty} of 4, "
        f"importance {exercise.importance} of 4, about {exercise.minutes} minutes.*"
    )


def call(exercise):
    return f'from fragile_utils.course import grade\n\ngrade("{exercise.label}")'


def hints(exercise):
    return [f"````{{admonition}} {title}\n:class: dropdown\n{hint}\n````" for title, hint in titled_hints(exercise)]


def titled_hints(exercise):
    """Each hint with its title: a number, if there are several."""
    alone = len(exercise.hints) == 1
    return [("Hint" if alone else f"Hint {i}", hint) for i, hint in enumerate(exercise.hints, 1)]


# --- Cells as nbformat has them --------------------------------------------------------------------------------------


def text(exercise, part, source, name=None):
    return cell(exercise, part, name) | {"cell_type": "markdown", "source": lines(source)}


def code(exercise, part, source, name=None):
    extra = {"cell_type": "code", "execution_count": None, "outputs": [], "source": lines(source)}
    return cell(exercise, part, name) | extra


def cell(exercise, part, name=None):
    return {"id": identity(f"{exercise.label} {name or part}"), "metadata": {MARK: [exercise.label, part]}}


def identity(name):
    """The id of a cell: the same for the same name."""
    return hashlib.sha256(name.encode()).hexdigest()[:8]


def lines(source):
    return source.splitlines(keepends=True)


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def as_text(notebook):
    """A notebook as its file has it, with the fields of each cell in nbformat's order."""
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


if __name__ == "__main__":
    try:
        files = carry()
    except ValueError as error:
        sys.exit(f"exercises: {error}")
    print("\n".join(f"wrote {file}" for file in files) or "every chapter agrees with the sources")
