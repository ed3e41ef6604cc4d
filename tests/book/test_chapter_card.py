"""The card of a chapter: every chapter has one, and its minutes are those that its cells take."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = sorted((ROOT / "chapters").glob("*.ipynb"))
each_chapter = pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.name)


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def first_cell(path):
    return "".join(read(path)["cells"][0]["source"])


# --- The source ------------------------------------------------------------------------------------------------------


@each_chapter
def test_a_chapter_opens_with_its_card(extension, path):
    card = extension("chapter_card")
    [found] = card.SOURCE.finditer(first_cell(path))
    assert re.fullmatch(r"# .+\n\n", first_cell(path)[: found.start()])
    fields = card.fields(found[2])
    assert fields["question"].endswith("?")
    assert 2 <= len(card.aims(fields)) <= 4
    assert all(aim[0].islower() for aim in card.aims(fields)), "each goes on from 'you will be able to'"
    assert not re.search(r"minute", found[2]), "minutes are measured"


@each_chapter
def test_the_question_is_asked_once(extension, path):
    """What stands on the card is not said again below it."""
    card = extension("chapter_card")
    [found] = card.SOURCE.finditer(first_cell(path))
    rest = first_cell(path)[found.end() :]
    assert card.fields(found[2])["question"] not in rest
    assert not re.search(r"At the end you will|What you need", rest)


@pytest.mark.parametrize(
    "body",
    [
        "question: What?\nable: do\nneeds: x",
        "question: What?\nable: do\nneeds: x\ndevice:",
        "able: do\nquestion: What?\nneeds: x\ndevice: any",
        "question: What?\nable: do\nneeds: x\ndevice: any\nminutes: 20",
    ],
)
def test_a_card_with_other_lines_is_refused(extension, body):
    with pytest.raises(ValueError, match="expected the lines question, able, needs, device, got"):
        extension("chapter_card").fields(body)


def test_in_a_plain_notebook_a_card_is_markdown(extension):
    text = "# T\n\n```{chapter-card}\nquestion: Why?\nable: do a; do b\nneeds: x\ndevice: any\n```\n\nText."
    minutes = extension("reading_time").Minutes(read=10, work=45)
    shown = extension("chapter_card").as_markdown(text, minutes)
    assert "{chapter-card}" not in shown
    assert "**Why?**" in shown
    assert "- do a\n- do b\n" in shown
    assert "*About* 10 minutes to read, 45 with cells and exercises." in shown
    assert shown.endswith("Text.")


# --- The minutes -----------------------------------------------------------------------------------------------------


def markdown(source):
    return {"cell_type": "markdown", "metadata": {}, "source": source}


def code(source, **metadata):
    return {"cell_type": "code", "metadata": metadata, "source": source}


START, END = "```{exercise-start} E\n:label: ex-e\n```", "```{exercise-end}\n```"
SOLVED = "```{solution-start} ex-e\n:class: dropdown\n```", "```{solution-end}\n```"


def minutes(extension, *cells):
    found = extension("reading_time").measure({"cells": [*cells]})
    return found.read, found.work


def test_two_hundred_words_take_a_minute(extension):
    assert minutes(extension, markdown("word " * 2000)) == (10, 10)
    assert minutes(extension, markdown("word " * 1000), markdown("word " * 3000)) == (20, 20)


def test_code_equations_and_figures_take_time(extension):
    words = markdown("word " * 1000)
    assert minutes(extension, words, code("x = 1\n" * 300)) == (15, 15)
    assert minutes(extension, words, code("x = 1\n" * 300, tags=["hide-input"])) == (5, 5)
    assert minutes(extension, words, markdown("```{math}\n:label: eq-a\nx\n```\n" * 10)) == (10, 10)
    assert minutes(extension, words, *[code("f()", mystnb={"figure": {"name": "fig"}})] * 10) == (10, 15)


def test_exercises_are_not_read_but_worked(extension):
    words = markdown("word " * 1000)
    stated = markdown(
        f"{START}\n\n*Write. Difficulty 1 of 4, importance 4 of 4, about 40 minutes.*\n\n" + "word " * 900
    )
    cells = [stated, code("def stub(): ..."), markdown(END), markdown(SOLVED[0]), code("y"), markdown(SOLVED[1])]
    assert minutes(extension, words, *cells) == (5, 45)
    assert minutes(extension, words, *cells, markdown("word " * 1000)) == (10, 50)
    plain = markdown("```{exercise} E\n:label: ex-f\n" + "word " * 900 + "\n```")
    assert minutes(extension, words, plain) == (5, 20)


def test_what_stands_after_an_exercise_in_the_same_cell_is_read(extension):
    outside = extension("reading_time").outside_exercises
    assert outside(f"A\n\n{START}\n\nB", False) == ("A\n\n", True)
    kept, inside = outside(f"B\n\n{END}\n\nC\n\n{SOLVED[0]}\nD\n{SOLVED[1]}\nE", True)
    assert (kept.split(), inside) == (["C", "E"], False)


@each_chapter
def test_the_words_that_are_counted_are_most_of_what_a_plain_count_finds(extension, path):
    """A count without any grammar of exercises: of cells that come before them."""
    measure = extension("reading_time")
    cells = read(path)["cells"]
    end = next(i for i, cell in enumerate(cells) if "## Exercises" in "".join(cell["source"]))
    prose = [
        re.sub(r"```.*?```", "", "".join(c["source"]), flags=re.S) for c in cells[:end] if c["cell_type"] != "code"
    ]
    least = sum(len(text.split()) for text in prose) / measure.WORDS
    found = measure.measure(read(path))
    assert least * 0.8 <= found.read <= least * 3 + 5
    assert found.work > found.read
