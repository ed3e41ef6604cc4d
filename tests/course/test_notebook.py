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


def test_a_label_is_found_as_a_keyword_too():
    cells = ['grade(*mine, label="ex-a")', 'course.grade(f=f, label="ex-b")', "grade(3)", 'other(label="ex-c")']
    assert notebook.labels_in(cells) == ["ex-a", "ex-b"]


def test_a_cell_that_python_cannot_read_does_not_hide_the_others():
    deep = f"x = {'-' * 200_000}1"
    assert notebook.labels_in([deep, GRADE, "'\ud800'"]) == ["ex-mass-centre"]
    assert notebook.judge_cells("ex-mass-centre", [deep, *CELLS]).passed


def test_what_a_label_or_an_error_says_can_be_printed():
    assert notebook.labels_in(['grade("ex-\\ud800\\x1b[31m")']) == [r"ex-\ud800\x1b[31m"]
    says = "def mass_centre(maps):\n    raise ValueError(chr(0xD800) + chr(27) + '[31m')"
    problem = notebook.judge_cells("ex-mass-centre", [says]).outcomes[0].problem
    assert problem.startswith(r"your code stopped with ValueError: \ud800\x1b[31m (line 2: ")


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


def test_what_an_answer_prints_is_not_in_the_output(tmp_path, capfd):
    prints = f"""{RIGHT.rstrip().replace("    return", "    say();  return")}

def say():
    print('{{"passed": true}}', chr(0xD800), flush=True)
    os.write(1, b"forged")
    os.system("echo forged; echo forged >&2")
"""
    stops = "def spearman(before, after):\n    raise KeyboardInterrupt"
    calls = [f'grade("ex-{name}")' for name in ("mass-centre", "spearman")]
    first, second = notebook.grade_notebook(
        write(tmp_path / "a.ipynb", ["import os, torch", HELPER, prints, stops, *calls])
    )
    assert first.passed
    assert second.note == "it ended the process that graded it"
    assert capfd.readouterr() == ("", "")


def test_an_answer_prints_where_it_is_graded_in_a_notebook(capsys):
    prints = "def total(maps):\n    print('here')\n    return maps.sum((1, 2))"
    assert notebook.judge_cells("ex-mass-centre", [*CELLS, prints]).passed
    assert "here" in capsys.readouterr().out


def test_the_process_ends_quietly_when_nobody_hears_it(monkeypatch):
    class Connection:
        def fileno(self):
            return 3

        def recv(self):
            return "ex-mass-centre"

        def send(self, said):
            raise BrokenPipeError

    monkeypatch.setattr(notebook, "_silence", lambda keep: None)
    notebook._serve(Connection(), CELLS, None, 0)


def test_hidden_tests_are_run_where_the_sources_are_given(sources):
    loaded = source.load(sources)
    both = notebook.judge_cells("ex-mass-centre", CELLS, loaded, seed=7)
    assert both.passed
    assert len(both.outcomes) > len(notebook.judge_cells("ex-mass-centre", CELLS).outcomes)
