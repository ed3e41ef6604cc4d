"""Sources of exercises: what is read of them, and the line that says what is wrong with one."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from answered import investigated

from fragile_utils import claims
from fragile_utils.course import load, parse
from fragile_utils.course.exercise import Estimate

GOOD = (Path(__file__).resolve().parents[2] / "book" / "exercises" / "08_mass_centre.md").read_text(encoding="utf-8")
EXPLAIN = """\
---
label: ex-why
title: Why?
chapter: 3
kind: explain
difficulty: 2
importance: 1
minutes: 5
---

## Statement

Say why.

```python
## this is no heading
```

## Solution

Because.

## Rubric

Two points for a reason.
"""
PREDICT = """\
---
label: ex-half
title: A half
chapter: 3
kind: predict
difficulty: 1
importance: 1
minutes: 2
---

## Statement

How many?

## Choice: none

There are some.

## Right: one & a half

Yes.

## Choice: two

Fewer.

## Computed

```python
answer = [False, True, False]
```

## Solution

Count them.
"""
CHOICES = PREDICT[PREDICT.index("## Choice: none") : PREDICT.index("## Computed")]
ESTIMATE = PREDICT.replace(
    CHOICES,
    "## Estimate\n\nvalue: 1.5\nwithin: 0.25\nunit: pixels\n\n## Too low\n\nMore.\n\n## Too high\n\nLess.\n\n",
)
INVESTIGATE = """\
---
label: ex-look
title: Look
chapter: 3
kind: investigate
difficulty: 2
importance: 1
minutes: 5
---

## Statement

Look.

## Given

```python
before = 2
```

## Solution

```python
after = before + 1
```

It is three.

## Checks

```python
check("it is three", after, equal_to=3)
```

## Rubric

A point.
"""


def test_a_source_is_read():
    exercise = parse(GOOD)
    assert (exercise.label, exercise.chapter, exercise.difficulty, exercise.minutes) == ("ex-mass-centre", 8, 1, 10)
    assert exercise.names == ("mass_centre",)
    assert exercise.statement.startswith("Write {eq}`eq-mass-centre`")
    assert "def test_three_maps(mass_centre):" in exercise.public
    assert "def test_other_maps(mass_centre, generator):" in exercise.hidden
    assert exercise.answer.startswith("import torch\n\n\ndef mass_centre(maps):")
    assert exercise.wrong[0].says == "row and column are exchanged"
    assert len(exercise.hints) == 1


def test_what_is_not_written_needs_no_tests_but_a_rubric():
    exercise = parse(EXPLAIN)
    assert (exercise.stub, exercise.public, exercise.wrong) == ("", "", ())
    assert exercise.rubric == "Two points for a reason."
    assert "## this is no heading" in exercise.statement
    with pytest.raises(ValueError, match="expected a section '## Rubric'"):
        parse(EXPLAIN[: EXPLAIN.index("## Rubric")])


def test_a_prediction_is_a_choice_or_a_number():
    exercise = parse(PREDICT)
    assert [(c.text, c.right) for c in exercise.choices] == [("none", False), ("one & a half", True), ("two", False)]
    assert (exercise.choices[0].reply, exercise.estimate) == ("There are some.", None)
    assert exercise.computed == "answer = [False, True, False]"
    assert parse(ESTIMATE).estimate == Estimate(1.5, 0.25, "pixels", "More.", "Less.")
    assert parse(ESTIMATE.replace("pixels", "none")).estimate.unit == ""


def test_an_investigation_has_code_and_checks_of_it():
    exercise = parse(INVESTIGATE)
    assert (exercise.given, exercise.answer) == ("before = 2", "after = before + 1")
    assert investigated(exercise)["after"] == 3
    with pytest.raises(claims.ClaimError, match="it is three: got 2"):
        investigated(replace(exercise, given="before = 1"))


OTHERS = {
    "two right answers": (PREDICT, "## Choice: two", "## Right: two", "expected one section '## Right: ...', got 2"),
    "two choices": (PREDICT, "## Choice: two\n\nFewer.\n", "", "expected at least three choices, got 2"),
    "a choice without a reply": (PREDICT, "There are some.", "", "none: expected a reply"),
    "one reply for two": (PREDICT, "Fewer.", "There are some.", "a reply of its own for each choice"),
    "a formula as a choice": (PREDICT, ": two", ": $2$", "expected choices of plain text, got '$2$'"),
    "neither choice nor number": (PREDICT, CHOICES, "", "expected either sections"),
    "both": (ESTIMATE, "## Computed", CHOICES + "## Computed", "expected either sections"),
    "no code": (PREDICT, "```python\nanswer = [False, True, False]\n```", "", "expected a section '## Computed'"),
    "code as the reason": (PREDICT, "Count them.", "```python\n1\n```", "Solution: expected words"),
    "a stub": (PREDICT, "## Solution", "## Stub\n\n```python\n1\n```\n\n## Solution", "no section '## Stub'"),
    "a number that is none": (ESTIMATE, "1.5", "many", "Estimate: could not convert"),
    "no tolerance": (ESTIMATE, "0.25", "0", "Estimate: expected a number, within more than 0"),
    "a field of the number": (ESTIMATE, "within: 0.25\n", "", "Estimate: expected the field 'within'"),
    "no reply to a number": (ESTIMATE, "## Too low\n\nMore.", "", "expected a section '## Too low'"),
    "no code to investigate": (INVESTIGATE, "```python\nafter = before + 1\n```", "", "Solution: expected code that"),
    "nothing found": (INVESTIGATE, "It is three.", "", "Solution: expected what is found, in words"),
    "checks of nothing": (INVESTIGATE, 'check("it is three", after, equal_to=3)', "after", "expected a call of check"),
    "code to explain": (EXPLAIN, "Because.", "```python\n1\n```", "Solution: expected words"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_broken_source_of_another_kind_is_told_too(name):
    text, old, new, said = OTHERS[name]
    assert old in text
    with pytest.raises(ValueError, match=re.escape(said)):
        parse(text.replace(old, new, 1))


BROKEN = {
    "no fields": (("---\nlabel", "label"), "expected the fields of the exercise first"),
    "a field of another name": (("minutes:", "hours:"), "got 'hours: 10'"),
    "a field twice": (("chapter: 8", "chapter: 8\nchapter: 9"), "got 'chapter: 9'"),
    "no difficulty": (("difficulty: 1\n", ""), "expected the field 'difficulty'"),
    "a difficulty of 7": (
        ("difficulty: 1", "difficulty: 7"),
        "difficulty: expected a whole number from 1 to 4, got '7'",
    ),
    "a label of another kind": (("ex-mass-centre", "mass centre"), "label: expected one like ex-saliency-map"),
    "a kind of another name": (("kind: write", "kind: quiz"), "kind: expected one of write, predict"),
    "no solution": (("## Solution", "## Hint"), "expected a section '## Solution'"),
    "a section of another name": (("## Solution", "## Answer"), "expected a section Statement, Hint"),
    "a section twice": (("## Hidden tests", "## Public tests"), "expected the section 'Public tests' once"),
    "text before the sections": (("## Statement", "Hello\n\n## Statement"), "expected a section first, got 'Hello'"),
    "a fence without an end": (
        ("    return torch.tensor([center_of_mass(m.detach().numpy()) for m in maps])\n```\n", ""),
        "at the end of a fence, got the end of the file",
    ),
    "text among the tests": (
        ("## Hidden tests\n", "## Hidden tests\n\nThese are:\n"),
        "Hidden tests: expected one fence",
    ),
    "no Python": (
        ("rows = torch.arange(height).to(maps)", "rows = = 1"),
        "Solution: expected Python, got invalid syntax",
    ),
    "nothing to write": (
        ("## Stub\n\n```python\nimport torch\n", "## Stub\n\n```python\nimport torch\n```\n\n## Rubric\n\n```python\n"),
        "Stub: expected a function",
    ),
    "a test of something else": (
        ("def test_other_maps(mass_centre, ", "def test_other_maps(centre, "),
        "asks for centre, which no stub defines",
    ),
    "a test of nothing": (
        ("def test_other_maps(mass_centre, generator)", "def test_other_maps(generator)"),
        "expected test_other_maps to ask for one of mass_centre",
    ),
    "a test without words": (
        ('    """other maps, wider than high"""\n', ""),
        "expected what test_other_maps tests, as its docstring",
    ),
    "a wrong answer without words": (
        ("says: divide by the sum\n", ""),
        "Wrong: does not divide by the sum: expected a line 'says:",
    ),
    "a wrong answer to something else": (
        ("def mass_centre(maps):\n    best", "def centre(maps):\n    best"),
        "expected one of mass_centre, got none",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_source_is_told_what_is_wrong_in_a_line(name, tmp_path):
    (old, new), said = BROKEN[name]
    assert old in GOOD
    path = tmp_path / "01_broken.md"
    path.write_text(GOOD.replace(old, new, 1) if name != "no fields" else GOOD.replace("---\n", "", 1))
    with pytest.raises(ValueError, match=re.escape(said)) as error:
        load(tmp_path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_cells_stay_short():
    long = "\n".join(f"    x{i} = {i}" for i in range(30))
    with pytest.raises(ValueError, match="at most 25 lines a cell, got 3"):
        parse(GOOD.replace("    raise NotImplementedError", f"{long}\n    raise NotImplementedError"))


def test_two_wrong_answers_are_the_least():
    parts = GOOD.split("## Wrong: ")
    with pytest.raises(ValueError, match=r"at least two sections '## Wrong: \.\.\.', got 1"):
        parse("## Wrong: ".join(parts[:2]))


def test_a_label_is_given_once(tmp_path):
    for name in ("01_a.md", "02_b.md"):
        (tmp_path / name).write_text(GOOD)
    with pytest.raises(ValueError, match=r"02_b\.md: expected labels that differ, got ex-mass-centre twice"):
        load(tmp_path)


def test_a_folder_without_sources_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected a folder with sources of exercises"):
        load(tmp_path)
