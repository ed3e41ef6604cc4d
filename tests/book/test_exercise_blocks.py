"""Exercises in the chapters and in the package: what the sources say stands there, and nothing that is hidden."""

import ast
import json
import shutil
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest

from fragile_utils.course import load
from fragile_utils.course.exercise import Cell

ROOT = Path(__file__).resolve().parents[2]
EXERCISES = load(ROOT / "book" / "exercises")
CHAPTERS = sorted((ROOT / "chapters").glob("*.ipynb"))


@pytest.fixture
def blocks(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "book" / "_ext")
    import exercise_blocks

    return exercise_blocks


@pytest.fixture
def copy(tmp_path, blocks):
    """A copy of the sources and of what is made from them."""
    for folder in (blocks.SOURCES, blocks.PUBLIC, "chapters"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def sources(cells):
    return ["".join(cell["source"]) for cell in cells]


def test_the_chapters_and_the_package_agree_with_the_sources(blocks, copy):
    assert blocks.carry(copy) == [], "make exercises repairs this"


def test_a_change_of_a_source_arrives_everywhere(blocks, copy):
    path = copy / blocks.SOURCES / "01_saliency_map.md"
    path.write_text(path.read_text().replace("forget the sign", "forget all signs").replace("one image:", "1 image:"))
    assert blocks.carry(copy) == [
        "fragile_utils/course/_public/ex_saliency_map.py",
        "chapters/01_a_first_broken_explanation.ipynb",
    ]
    assert "forget all signs" in (copy / "chapters" / "01_a_first_broken_explanation.ipynb").read_text()
    assert blocks.carry(copy) == []


def test_what_has_no_source_any_more_leaves_the_package_and_its_chapter(blocks, copy):
    (copy / blocks.SOURCES / "18_power_iteration.md").unlink()
    assert blocks.carry(copy) == [
        "chapters/18_curvature_of_real_networks.ipynb",
        "fragile_utils/course/_public/ex_power_iteration.py",
    ]
    assert "ex-power-iteration" not in (copy / "chapters" / "18_curvature_of_real_networks.ipynb").read_text()
    assert not (copy / "fragile_utils/course/_public/ex_power_iteration.py").exists()


def test_a_label_alone_becomes_a_block_once(blocks):
    exercise = EXERCISES["ex-mass-centre"]
    before = {"cell_type": "markdown", "id": "a", "metadata": {}, "source": ["Before"]}
    cells = blocks.placed([before, before | {"source": ["ex-mass-centre\n"]}, before], EXERCISES)
    assert sources(cells)[0] == sources(cells)[-1] == "Before"
    parts = [blocks.part_of(cell) for cell in cells[1:-1]]
    assert parts == ["card", "stub", "grade", "hints"] + ["solution"] * 4
    assert sources(cells)[2] == exercise.stub
    assert exercise.answer in sources(cells)
    assert blocks.placed(cells, EXERCISES) == cells


def test_an_exercise_without_code_has_no_cells_of_code(blocks):
    exercise = replace(EXERCISES["ex-mass-centre"], kind="explain", stub="", solution=(Cell("Because.", code=False),))
    cells = blocks.block(exercise)
    assert [cell["cell_type"] for cell in cells] == ["markdown"] * 3
    assert "```{exercise-end}" in sources(cells)[0]


def test_a_prediction_is_one_cell_that_is_written_again(blocks):
    exercise = EXERCISES["ex-predict-chance"]
    cells = blocks.block(exercise)
    assert [(cell["cell_type"], blocks.part_of(cell)) for cell in cells] == [("markdown", "card")]
    assert blocks.placed(cells, EXERCISES) == cells


def test_the_checks_of_an_investigation_are_folded_below_its_code(blocks):
    exercise = EXERCISES["ex-scale-constant"]
    cells = blocks.block(exercise)
    kinds = [cell["cell_type"] for cell in cells]
    assert kinds == ["markdown", "markdown", "code", "code", "markdown"]
    assert "".join(cells[2]["source"]) == exercise.answer
    assert "".join(cells[3]["source"]) == exercise.checks
    assert cells[3]["metadata"]["tags"] == ["check", "hide-input"]
    assert cells[3]["metadata"]["jupyter"] == {"source_hidden": True}


def test_every_exercise_stands_in_its_chapter():
    placed = {
        path.name[:2]: {c["metadata"].get("exercise", [None])[0] for c in json.loads(path.read_text())["cells"]}
        for path in CHAPTERS
    }
    assert [label for label, e in EXERCISES.items() if label not in placed[f"{e.chapter:02}"]] == []


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.name)
def test_a_block_leaves_the_names_of_its_chapter_alone(path, blocks):
    """What later cells of a chapter use is not what a stub has put in its place."""
    cells = json.loads(path.read_text())["cells"]
    inside = [cell for cell in cells if cell["cell_type"] == "code" and blocks.label_of(cell)]
    outside = [cell for cell in cells if cell["cell_type"] == "code" and not blocks.label_of(cell)]
    assert defined(inside) & defined(outside) == set()


def defined(cells):
    """The functions, classes and variables that cells define."""
    names = set()
    for code in sources(cells):
        for node in [] if "%pip" in code else ast.parse(code).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                names.add(node.name)
            elif isinstance(node, ast.Assign):
                stored = (name for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name))
                names |= {name.id for name in stored}
    return names


@pytest.mark.parametrize("exercise", EXERCISES.values(), ids=EXERCISES)
def test_nothing_hidden_is_in_a_chapter_or_in_the_package(exercise, blocks):
    shown = [code for path in CHAPTERS for code in sources(nbformat.read(path, as_version=4).cells)]
    shown += [path.read_text() for path in (ROOT / blocks.PUBLIC).glob("*.py")]
    text = "\n".join(shown)
    hidden = [node.name for node in ast.parse(exercise.hidden).body if isinstance(node, ast.FunctionDef)]
    public = {node.name for node in ast.parse(exercise.public).body if isinstance(node, ast.FunctionDef)}
    docs = [ast.get_docstring(node) for node in ast.parse(exercise.hidden).body if isinstance(node, ast.FunctionDef)]
    assert {*hidden} & public == set()
    assert [words for words in docs if words and f'"""{words}"""' in text] == []
    assert [wrong.name for wrong in exercise.wrong if wrong.code in text or f"Wrong: {wrong.name}" in text] == []
    assert not exercise.rubric or exercise.rubric not in text
