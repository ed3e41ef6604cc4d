"""`fragile grade` as a student and as a teacher meet it."""

import json
from pathlib import Path

from command_line import assert_refused, records

ROOT = Path(__file__).resolve().parents[2]
RIGHT = """\
import torch


def picture_gradient(x, w, b, v):
    return (torch.sigmoid(x @ w.T + b) * v) @ w


def picture_hessian(x, w, b, v):
    s = torch.sigmoid(x @ w.T + b)
    return torch.einsum("nh,hi,hj->nij", s * (1 - s) * v, w, w)
"""
STUB = "def spearman(before, after):\n    raise NotImplementedError"


def write(path):
    cells = [RIGHT, 'grade("ex-picture-hessian")', STUB, 'grade("ex-spearman")']
    path.write_text(json.dumps({"cells": [{"cell_type": "code", "source": cell} for cell in cells]}))
    return path


def test_a_notebook_is_graded(fragile, tmp_path):
    status, out, err = fragile("grade", write(tmp_path / "mine.ipynb"))
    assert (status, err) == (0, "")
    first, *_, last = out.splitlines()
    assert first == "✓ ex-picture-hessian: 2 of 2 tests passed"
    assert "○ ex-spearman: not written yet" in out
    assert last == "1 of 2 exercises passed; 1.00 points, one for each exercise"


def test_for_programs_and_with_hidden_tests(fragile, tmp_path):
    given = write(tmp_path / "mine.ipynb"), "--sources", ROOT / "book" / "exercises", "--seed", 5, "--json"
    _, out, _ = fragile("grade", *given)
    (first, second), summary = records(out)
    assert (first["exercise"], first["passed"], len(first["of"])) == ("ex-picture-hessian", True, 4)
    assert (second["note"], second["score"]) == ("not written yet", 0)
    assert summary == {"summary": True, "exercises": 2, "passed": 1, "score": 1.0}


def test_wrong_input_is_refused(fragile, tmp_path):
    notebook = write(tmp_path / "mine.ipynb")
    assert_refused(fragile("grade", tmp_path / "none.ipynb"), "none.ipynb")
    assert_refused(fragile("grade", ROOT / "README.md"), "expected a notebook of Jupyter")
    assert_refused(fragile("grade", notebook, "--sources", tmp_path), "expected a folder with sources of exercises")
    assert_refused(fragile("grade", notebook, "--timeout", "0"), "--timeout: expected a number above 0")
    assert_refused(fragile("grade", notebook, "--seed", "-1"), "--seed")
