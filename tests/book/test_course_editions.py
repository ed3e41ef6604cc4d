"""The archives of a course: a student's, without answers, and an instructor's, which grades."""

import ast
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import nbformat
import pytest

from fragile_utils.course import execution, judge, load
from fragile_utils.course.notebook import judge_cells, labels_in

ROOT = Path(__file__).resolve().parents[2]
EXERCISES = load(ROOT / "book" / "exercises")
WRITE = {label: exercise for label, exercise in EXERCISES.items() if exercise.kind == "write"}
SEED = 86_420_135


@pytest.fixture(scope="module")
def editions():
    sys.path.insert(0, str(ROOT / "book" / "_ext"))
    try:
        import course_editions
    finally:
        sys.path.pop(0)
    return course_editions


@pytest.fixture(scope="module")
def archives(editions, tmp_path_factory):
    """What is in both archives: their files as text, by name."""
    paths = editions.build(tmp_path_factory.mktemp("course"), SEED)
    found = {}
    for path in paths:
        with zipfile.ZipFile(path) as archive:
            found[path.stem] = {name: archive.read(name).decode() for name in archive.namelist()}
    return found["student"], found["instructor"]


def notebooks(files):
    return {name: nbformat.reads(text, as_version=4) for name, text in files.items() if name.endswith(".ipynb")}


def code(notebook):
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def text(notebook):
    return "\n".join(cell.source for cell in notebook.cells)


def test_every_notebook_is_well_formed(archives):
    for files in archives:
        for notebook in notebooks(files).values():
            nbformat.validate(notebook)
            ids = [cell.id for cell in notebook.cells]
            assert len(ids) == len({*ids})


def test_a_student_gets_every_chapter_and_every_exercise(archives):
    student = notebooks(archives[0])
    assert len(student) == len(list((ROOT / "chapters").glob("*.ipynb")))
    asked = [label for notebook in student.values() for label in labels_in(code(notebook))]
    assert sorted(asked) == sorted(WRITE)
    for notebook in student.values():
        for label in labels_in(code(notebook)):
            assert EXERCISES[label].stub in code(notebook)


def test_a_student_gets_no_answer(archives):
    """No solution, neither of a source nor of a chapter; no hidden test, no wrong answer, no rubric, no seed."""
    everything = "\n".join(map(text, notebooks(archives[0]).values())) + archives[0]["student/README.md"]
    assert "{solution" not in everything
    assert str(SEED) not in everything
    for exercise in EXERCISES.values():
        parts = [cell.text for cell in exercise.solution] + [wrong.code for wrong in exercise.wrong]
        parts += [ast.unparse(n) for n in ast.parse(exercise.hidden).body] + [exercise.rubric, exercise.hidden]
        parts += [choice.reply for choice in exercise.choices] + [exercise.computed, exercise.given, exercise.checks]
        parts += [] if exercise.estimate is None else [exercise.estimate.low, exercise.estimate.high]
        assert [part for part in parts if part and part in everything] == []
    for path in (ROOT / "chapters").glob("*.ipynb"):
        for answer in solutions_of(nbformat.read(path, as_version=4)):
            assert answer not in everything


def test_an_instructor_gets_the_examination_and_the_projects_and_a_student_nothing_of_them(archives, editions):
    student, instructor = archives
    for folder, count in (("examination", 2), ("projects", 6)):
        assert sum(name.startswith(f"instructor/{folder}/") for name in instructor) == count
        assert not any(folder in name for name in student)
    assert str(SEED) in instructor["instructor/examination/questions.md"]
    everything = "\n".join(student.values())
    for line in instructor["instructor/examination/answers.md"].splitlines():
        if line.startswith("- **") and len(line) > 40:
            assert line.split("** ", 1)[1] not in everything
            assert line not in instructor["instructor/examination/questions.md"]


def test_a_student_reads_the_card_of_a_chapter_with_its_measured_minutes(archives):
    for name, notebook in notebooks(archives[0]).items():
        assert "{chapter-card}" not in text(notebook), name
        assert re.search(r"\*About\* \d+ minutes to read, \d+ with cells and exercises\.", notebook.cells[0].source)


def test_a_student_is_asked_every_question_where_it_stands_in_the_chapter(archives, editions):
    """Predictions without their answers, before the output; and a place to write for what is not graded."""
    for name, notebook in notebooks(archives[0]).items():
        mine = [e for e in EXERCISES.values() if e.chapter == int(Path(name).name[:2]) and e.kind != "write"]
        for exercise in mine:
            places = [i for i, cell in enumerate(notebook.cells) if editions.plain(exercise.statement) in cell.source]
            assert len(places) == 1, exercise.label
            assert notebook.cells[places[0] + 1].source.startswith(f"# {exercise.label}: your ")


def solutions_of(notebook):
    """The code in the solutions of a chapter."""
    inside = False
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            marks = re.findall(r"^`{3,}\{solution-(start|end)\}", cell.source, flags=re.MULTILINE)
            inside = marks[-1] == "start" if marks else inside
        elif inside and "grade(" not in cell.source:
            yield cell.source


def test_the_rest_of_a_chapter_is_kept(archives, editions):
    """Its headings, its exercises and what to take away."""
    for name, notebook in notebooks(archives[0]).items():
        chapter = nbformat.read(ROOT / "chapters" / Path(name).name, as_version=4)
        for cell in chapter.cells:
            for heading in re.findall(r"^##? .+$", cell.source, flags=re.MULTILINE):
                if cell.cell_type == "markdown":
                    assert editions.plain(heading) in text(notebook)
            for label in re.findall(r"^:label: (ex-\S+)$", cell.source, flags=re.MULTILINE):
                assert label in text(notebook)
        assert "## What you should take away" in text(notebook)


def test_with_the_references_filled_in_every_exercise_passes(archives):
    """As a student would: the stub's cell is written over, and the notebook graded."""
    for notebook in notebooks(archives[0]).values():
        cells = code(notebook)
        for label in labels_in(cells):
            exercise = EXERCISES[label]
            filled = [
                exercise.answer if cell == exercise.stub else cell
                for cell in cells
                if "fragile_utils import" not in cell
            ]
            report = judge_cells(label, filled, EXERCISES, SEED)
            assert report.passed, report


def filled_in(notebook):
    """A student's notebook in which each stub is written over with the reference."""
    answers = {exercise.stub: exercise.answer for exercise in WRITE.values()}
    for cell in notebook.cells:
        cell.source = answers.get(cell.source, cell.source)
    return notebook


def test_a_student_s_notebook_uses_no_name_that_it_does_not_define(archives, tmp_path):
    """What was taken out, solutions and their checks, is needed by nothing that is left."""
    ruff = Path(sys.executable).with_name("ruff")
    if not ruff.exists():
        pytest.skip("ruff is not installed")
    for name, notebook in notebooks(archives[0]).items():
        nbformat.write(filled_in(notebook), tmp_path / Path(name).name)
    command = [ruff, "check", "--isolated", "--no-cache", "--select", "F821", tmp_path]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


@pytest.mark.slow
@pytest.mark.parametrize("chapter", ["08", "15", "16"])  # quick ones; `make book` runs what the others have left
def test_a_student_s_notebook_runs_from_top_to_bottom_and_every_answer_passes(archives, chapter, tmp_path):
    nbclient = pytest.importorskip("nbclient", reason="the book's packages are not installed")
    [notebook] = [n for name, n in notebooks(archives[0]).items() if Path(name).name.startswith(chapter)]
    labels = labels_in(code(notebook))
    client = nbclient.NotebookClient(
        filled_in(notebook), timeout=1200, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    client.execute()
    said = "\n".join(out.data["text/plain"] for out in outputs(notebook) if "data" in out)
    assert labels
    assert re.findall(r"✓ (ex-\S+):", said) == labels


def outputs(notebook):
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def otter_cases(notebook):
    """The tests of a master notebook, question by question, as Otter takes them out."""
    question, inside, found = None, False, {}
    for cell in notebook.cells:
        if cell.cell_type == "raw":
            question = re.search(r'name: "(ex_\w+)"', cell.source)[1] if "BEGIN QUESTION" in cell.source else question
            inside = "BEGIN TESTS" in cell.source or (inside and "END TESTS" not in cell.source)
        elif inside:
            config, body = cell.source.split('""" # END TEST CONFIG\n')
            assert len(ast.parse(body).body) == 1
            found.setdefault(question, []).append(("hidden: true" in config, body))
    return found


def test_the_masters_of_otter_hold_every_exercise_with_tests_that_stand_alone(archives):
    questions = {}
    for notebook in notebooks(archives[1]).values():
        questions |= otter_cases(notebook)
        assert "# ASSIGNMENT CONFIG" in notebook.cells[0].source
    assert sorted(questions) == sorted(label.replace("-", "_") for label in WRITE)
    for label, exercise in WRITE.items():
        cases = questions[label.replace("-", "_")]
        assert {hidden for hidden, _ in cases} == {True, False}
        tests = [next(iter(functions(body))) for _, body in cases]
        answers = execution.run_code(exercise.answer, "answer")
        assert judge(label, tests, answers).passed
        wrong = execution.run_code(exercise.wrong[0].code, "wrong", dict(answers))
        assert not judge(label, tests, wrong).passed


def functions(body):
    return [value for name, value in execution.run_code(body, "otter").items() if name.startswith("test_")]


def test_the_seed_changes_what_is_hidden_and_nothing_else(archives, editions, tmp_path):
    student, instructor = editions.build(tmp_path, SEED + 1)
    with zipfile.ZipFile(student) as archive:
        assert {name: archive.read(name).decode() for name in archive.namelist()} == archives[0]
    with zipfile.ZipFile(instructor) as archive:
        other = {name: archive.read(name).decode() for name in archive.namelist()}
    assert other.keys() == archives[1].keys()
    changed = [name for name in other if other[name] != archives[1][name]]
    assert changed
    assert all(re.search(r"/otter/|/examination/|README\.md$", name) for name in changed)
    assert f"SEED = {SEED}" in json.dumps(archives[1])


def test_without_solutions_text_around_them_is_kept(editions):
    text = "A\n\n```{solution-start} ex-a\n:class: dropdown\n```"
    assert editions.without_solutions(text, False) == ("A\n\n", 1, True)
    text = "secret\n\n```{solution-end}\n```\n\nB\n\n````{solution} ex-b\n:class: dropdown\n```python\n1\n```\n````\nC"
    kept, removed, inside = editions.without_solutions(text, True)
    assert (kept.split(), removed, inside) == (["B", "C"], 1, False)
