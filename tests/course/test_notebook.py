"""A notebook is graded without running it: definitions count, and what hangs is stopped."""

import json

import pytest

from fragile_utils.course import notebook, source

RIGHT = """
def mass_centre(maps):
    rows, columns = (torch.arange(n).to(maps) for n in maps.shape[1:])
    return torch.stack([maps.sum(2) @ rows, maps.sum(1) @ columns], 1) / total(maps)[:, None]
"""
HELPER = "def total(maps):\n    return maps.sum((1, 2))"
GRADE = 'from fragile_utils.course import grade\n\ngrade("ex-mass-centre")'
CELLS = ["%pip install nothing", "import torch", HELPER, RIGHT, GRADE, "raise SystemExit", "x = 1 / 0"]


def write(path, cells):
    made = [{"cell_type": "code", "source": cell.splitlines(keepends=True)} for cell in cells]
    path.write_text(json.dumps({"cells": [{"cell_type": "markdown", "source": "# Hello"}, *made]}))
    return path


def test_only_definitions_are_run():
    assert notebook.judge_cells("ex-mass-centre", CELLS).passed


def test_the_last_definition_counts():
    assert not notebook.judge_cells("ex-mass-centre", [*CELLS, "def mass_centre(maps):\n    return maps"]).passed


def test_an_answer_that_uses_a_variable_is_told_so():
    cells = ["import torch", "factor = 2", "def mass_centre(maps):\n    return factor * maps", GRADE]
    problem = notebook.judge_cells("ex-mass-centre", cells).outcomes[0].problem
    assert problem.startswith("your code stopped with NameError: name 'factor' is not defined (line 2")


def test_the_exercises_of_a_notebook_are_those_that_it_grades(tmp_path):
    path = write(
        tmp_path / "a.ipynb", [GRADE, 'course.grade("ex-spearman", f)', GRADE, "# grade('ex-no')", "not python("]
    )
    assert notebook.labels_in(notebook.code_cells(path)) == ["ex-mass-centre", "ex-spearman"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"cells": 3}', '{"cells": [{}]}', "[" * 10_000], ids=range(6))
def test_what_is_no_notebook_is_refused(tmp_path, text):
    path = tmp_path / "a.ipynb"
    path.write_text(text)
    with pytest.raises(ValueError, match="expected a notebook of Jupyter"):
        notebook.code_cells(path)


def test_a_notebook_without_exercises_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r'expected a notebook with cells grade\("ex-\.\.\."\)'):
        list(notebook.grade_notebook(write(tmp_path / "a.ipynb", ["1"])))


def test_what_hangs_is_stopped_and_the_others_are_graded(tmp_path):
    hangs = "def topk_intersection(before, after, k):\n    while True:\n        pass"
    leaves = "def spearman(before, after):\n    import os\n    os._exit(3)"
    calls = [f'grade("ex-{name}")' for name in ("topk-intersection", "spearman", "mass-centre", "nothing")]
    path = write(tmp_path / "a.ipynb", [hangs, leaves, "import torch", HELPER, RIGHT, *calls])
    first, second, third, fourth = notebook.grade_notebook(path, timeout=20)
    assert first.note == "it did not end within 20 seconds"
    assert second.note == "it ended the process that graded it"
    assert third.passed
    assert fourth.note == "there is no exercise of this name"


def test_hidden_tests_are_run_where_the_sources_are_given(sources):
    loaded = source.load(sources)
    both = notebook.judge_cells("ex-mass-centre", CELLS, loaded, seed=7)
    assert both.passed
    assert len(both.outcomes) > len(notebook.judge_cells("ex-mass-centre", CELLS).outcomes)
