"""A course from the chapters and the sources of the exercises: `make course`, into _build/course.

- student.zip: the chapters with empty cells. No solution, no hidden test, no wrong answer.
- instructor.zip: for each chapter the master notebook of Otter Assign, which makes a student's notebook and an
  autograder for Gradescope; the sources, for `fragile grade --sources`; all answers, with rubrics, on one page; the
  bank of examination questions, with answers and points; projects, with rubrics.

Hidden tests and examination questions draw their numbers from the instructor's seed. The repository is public, and the
seed is not in it.
"""

import argparse
import ast
import io
import json
import re
import secrets
import sys
import zipfile
from pathlib import Path

import predict_blocks
import repository_url
from chapter_card import as_markdown as with_card
from exercise_blocks import ROOT, SOURCES, as_text, asked, card, identity, label_of, part_of, read, titled_hints
from plain_markdown import caption, plain
from reading_time import measure

from fragile_utils._base.files import write_bytes
from fragile_utils.course import load

COURSE = Path("course")  # what is the instructor's alone: examination questions and projects
EMPTY = "# Your answer\n"
TAKE_AWAY = "## What you should take away"
FENCES = re.compile(r"^(`{3,})\{solution\}.*?^\1\n?", flags=re.MULTILINE | re.DOTALL)
STARTS = re.compile(r"^`{3,}\{solution-start\}.*?(?:^`{3,}\n?|\Z)", flags=re.MULTILINE | re.DOTALL)
ENDS = re.compile(r"^`{3,}\{solution-end\}\n`{3,}\n?", flags=re.MULTILINE)


def build(out, seed, root=ROOT):
    """Write both archives, and return their paths."""
    exercises = load(root / SOURCES)
    chapters = sorted(root.glob("chapters/*.ipynb"))
    student = {path.name: as_text(student_notebook(read(path), path, exercises)) for path in chapters}
    instructor = {f"sources/{path.name}": path.read_text(encoding="utf-8") for path in (root / SOURCES).glob("*.md")}
    for path in chapters:
        mine = of_chapter(path, exercises)
        if any(exercise.stub for exercise in mine):
            instructor[f"otter/{path.name}"] = as_text(otter_notebook(path, mine, seed))
    instructor["answers.md"] = "\n\n".join(map(answers, exercises.values())) + "\n"
    instructor |= examination(seed)
    instructor |= {f"projects/{path.name}": path.read_text(encoding="utf-8") for path in projects(root)}
    instructor["README.md"] = FOR_INSTRUCTORS.format(seed=seed)
    student["README.md"] = FOR_STUDENTS
    archives = {out / "student.zip": student, out / "instructor.zip": instructor}
    for path, files in archives.items():
        write_bytes(path, zipped(path.stem, files))
    return list(archives)


def of_chapter(path, exercises):
    return [exercise for exercise in exercises.values() if exercise.chapter == int(path.name[:2])]


def examination(seed):
    """The bank of questions with the numbers of a seed: what students are given, and what they are graded by."""
    if str(ROOT / COURSE) not in sys.path:
        sys.path.append(str(ROOT / COURSE))
    import bank

    return {
        "examination/questions.md": bank.as_markdown(seed, answers=False),
        "examination/answers.md": bank.as_markdown(seed, answers=True),
    }


def projects(root=ROOT):
    return sorted((root / COURSE / "projects").glob("*.md"))


# --- The student's edition -------------------------------------------------------------------------------------------


def student_notebook(notebook, path, exercises):
    """A chapter without solutions: each exercise with an empty cell, and where it tests itself, with `grade`.

    It is read in Jupyter and on Colab, so that its text is plain Markdown, and captions are text.
    """
    cells, shown, inside = [], set(), False
    minutes = measure(notebook)
    for cell in notebook["cells"]:
        label = label_of(cell)
        if label is not None:
            if part_of(cell) == "card":
                cells += student_block(exercises[label])
                shown.add(label)
        elif cell["cell_type"] == "markdown":
            kept, removed, inside = without_solutions(with_card("".join(cell["source"]), minutes), inside)
            if kept.strip():
                cells.append(cell | {"source": kept.strip("\n").splitlines(keepends=True)})
            cells += [code_cell(EMPTY, f"{cell['id']} {i}") for i in range(removed)]
        elif not inside:
            cells.append(cell)
            if said := caption(cell["metadata"]):
                cells.append(text_cell(said, f"{cell['id']} caption"))
    others = [exercise for exercise in of_chapter(path, exercises) if exercise.label not in shown]
    more = [cell for exercise in others for cell in student_block(exercise)]
    return notebook | {"cells": [in_plain_markdown(cell) for cell in before_the_end(cells, more)]}


def in_plain_markdown(cell):
    if cell["cell_type"] != "markdown":
        return cell
    return cell | {"source": plain("".join(cell["source"])).splitlines(keepends=True)}


def without_solutions(text, inside):
    """A Markdown cell without its solutions, how many began in it, and whether one goes on after it."""
    text, removed = FENCES.subn("", text)
    kept = []
    while text:
        match = (ENDS if inside else STARTS).search(text)
        if not inside:
            kept.append(text[: match.start()] if match else text)
            removed += match is not None
        if match is None:
            break
        inside = not inside
        text = text[match.end() :]
    return "".join(kept), removed, inside


def before_the_end(cells, more):
    """`cells`, with `more` at the end of the exercises."""
    for i, cell in enumerate(cells):
        head, found, tail = "".join(cell["source"]).partition(TAKE_AWAY)
        if more and found and cell["cell_type"] == "markdown":
            first = [cell | {"source": head.rstrip("\n").splitlines(keepends=True)}] if head.strip() else []
            last = cell | {"source": (found + tail).splitlines(keepends=True), "id": identity(f"{cell['id']} end")}
            return cells[:i] + first + more + [last] + cells[i + 1 :]
    return cells + more


def student_block(exercise):
    """An exercise in a student's notebook, in Markdown that Jupyter and Colab show."""
    if exercise.kind == "predict":
        question = text_cell(predict_blocks.as_question(exercise), f"{exercise.label} student")
        return [question, code_cell(f"# {exercise.label}: your prediction\n", f"{exercise.label} empty")]
    hints = [f"<details><summary>{title}</summary>\n\n{hint}\n\n</details>" for title, hint in titled_hints(exercise)]
    text = "\n\n".join([f"### Exercise: {exercise.title}", card(exercise), exercise.statement, *hints])
    first = text_cell(text, f"{exercise.label} student")
    if exercise.stub:
        return [first, *asked(exercise)]
    return [first, code_cell(f"# {exercise.label}: your answer\n", f"{exercise.label} empty")]


# --- The instructor's edition ----------------------------------------------------------------------------------------


def otter_notebook(path, exercises, seed):
    """The master notebook of Otter Assign for the exercises of a chapter."""
    config = {
        "name": path.stem,
        "requirements": [f"fragile_utils @ {repository_url.read()}/archive/HEAD.zip"],  # the grader's image has no git
        "tests": {"ok_format": False},
        "export_cell": {"pdf": False},
        "generate": {"show_stdout": True},
    }
    cells = [raw("# ASSIGNMENT CONFIG\n" + as_yaml(config), f"{path.stem} config")]
    cells.append(text_cell(f"# Exercises of chapter {int(path.name[:2])}", f"{path.stem} title"))
    for exercise in exercises:
        if exercise.stub:
            cells += otter_question(exercise, seed)
    metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def otter_question(exercise, seed):
    name = exercise.label.replace("-", "_")
    cases = [
        *otter_tests(exercise, exercise.public, seed=0),
        *otter_tests(exercise, exercise.hidden, seed, hidden=True),
    ]
    points = as_yaml({"name": name, "points": {"each": 1}})
    parts = [
        (raw, f"# BEGIN QUESTION\n{points}"),
        (text_cell, f"### {exercise.title}\n\n{card(exercise)}\n\n{plain(exercise.statement)}"),
        (code_cell, exercise.stub),
        (raw, "# BEGIN SOLUTION"),
        (code_cell, f"# BEGIN SOLUTION NO PROMPT\n{exercise.answer}\n# END SOLUTION"),
        (raw, "# END SOLUTION"),
        (raw, "# BEGIN TESTS"),
        *((code_cell, case) for case in cases),
        (raw, "# END TESTS"),
        (raw, "# END QUESTION"),
    ]
    return [make(text, f"{name} {i}") for i, (make, text) in enumerate(parts)]


def otter_tests(exercise, code, seed, hidden=False):
    """Each test as Otter wants it: one function that holds all it needs."""
    shared = [node for node in ast.parse(exercise.public).body if not is_test(node)]
    if hidden:
        shared += [node for node in ast.parse(code).body if not is_test(node)]
    for test in filter(is_test, ast.parse(code).body):
        asked_for = [argument.arg for argument in test.args.args]
        answers_only = [name for name in asked_for if name != "generator"]
        body = [*shared, test]
        lines = "\n".join(ast.unparse(node) for node in body).splitlines()
        given = ", ".join("torch.Generator().manual_seed(SEED)" if n == "generator" else n for n in asked_for)
        said = ast.get_docstring(test)
        outer = f"def {test.name}_of({', '.join(answers_only)}):\n"
        inner = [f'"""{said}"""', f"SEED = {seed}", *lines, f"{test.name}({given})"]
        config = f'""" # BEGIN TEST CONFIG\nhidden: {str(hidden).lower()}\n""" # END TEST CONFIG\n'
        yield config + outer + "\n".join(f"    {line}" for line in inner)


def is_test(node):
    return isinstance(node, ast.FunctionDef) and node.name.startswith("test_")


def answers(exercise):
    """The page of an exercise for those who grade: answer, wrong answers, rubric."""
    parts = [f"# {exercise.title} ({exercise.label}, chapter {exercise.chapter})", card(exercise), exercise.statement]
    parts += ["## Solution", *(f"```python\n{c.text}\n```" if c.code else c.text for c in exercise.solution)]
    for choice in exercise.choices:
        parts += [f"## {'Right' if choice.right else 'Wrong'}: {choice.text}", choice.reply]
    if exercise.estimate is not None:
        number = exercise.estimate
        parts += [f"It is {number.value:g} {number.unit}, within {number.within:g}.", number.low, number.high]
    for wrong in exercise.wrong:
        parts += [
            f"## What people do: {wrong.name}",
            f"```python\n{wrong.code}\n```",
            f"They are told: *{wrong.says}*.",
        ]
    if exercise.rubric:
        parts += ["## Rubric", exercise.rubric]
    return plain("\n\n".join(parts))


# --- Notebooks and archives ------------------------------------------------------------------------------------------


def text_cell(source, name):
    return {"cell_type": "markdown", "id": identity(name), "metadata": {}, "source": source}


def raw(source, name):
    return text_cell(source, name) | {"cell_type": "raw"}


def code_cell(source, name):
    return text_cell(source, name) | {"cell_type": "code", "execution_count": None, "outputs": []}


def as_yaml(value, indent=""):
    """Mappings, lists, text, numbers and truths as YAML, which for what stands in a line is JSON."""
    lines = []
    for key, part in value.items():
        nested = f"\n{as_yaml(part, indent + '  ')}" if isinstance(part, dict) else f" {json.dumps(part)}"
        lines.append(f"{indent}{key}:{nested}")
    return "\n".join(lines)


def zipped(folder, files):
    """The bytes of an archive, the same for the same files."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(f"{folder}/{name}", (2026, 1, 1, 0, 0, 0)), text.encode())
    return made.getvalue()


FOR_STUDENTS = """\
# The chapters, with your part left empty

Open a notebook in JupyterLab or on Colab, and run its cells. An exercise has a cell to fill in and one that grades it:
run the first, then the second, as often as you like. `fragile grade NOTEBOOK` grades all exercises of a notebook.

An answer is read from what the notebook imports and defines, so that a function may call another of yours, but not use
a variable of another cell.
"""

FOR_INSTRUCTORS = """\
# For instructors: not for students

The seed of this edition is {seed}. Keep it: hidden tests draw their numbers from it.

With nothing at all
: `fragile grade NOTEBOOK --sources sources --seed {seed}` grades a notebook, hidden tests included; `--json` is for
  programs.

With Otter
: `otter assign otter/01_....ipynb dist` makes a student's notebook in `dist/student` and the autograder in
  `dist/autograder`.

With Gradescope
: upload the zip file of `dist/autograder` as the autograder of a programming assignment.

`answers.md` has the solutions, the mistakes that people make and what the tests say of them, and rubrics.

`examination/` has a bank of questions for a written examination, with points, and what to grade them by. Choose among
them; another seed draws other numbers. `projects/` has six projects with rubrics.
"""


if __name__ == "__main__":
    options = argparse.ArgumentParser(description="Build the archives of a course.")
    options.add_argument("--out", type=Path, default=ROOT / "_build" / "course")
    options.add_argument("--seed", type=int, default=None, help="of hidden tests (default: a new one)")
    options = options.parse_args()
    chosen = secrets.randbelow(2**31) if options.seed is None else options.seed
    try:
        print(*build(options.out, chosen), f"seed {chosen}", sep="\n")
    except ValueError as error:
        sys.exit(f"course: {error}")
