"""A student's text as Jupyter shows it: nothing that only the build of the book understands is left."""

import importlib
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def made(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "book" / "_ext")
    return importlib.import_module("plain_markdown")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("by {eq}`eq-random-sign`,", "by equation (random sign),"),
        ("{numref}`fig-gallery` shows", "figure *gallery* shows"),
        ("{chapter}`02` and {doc}`10_topk_attack`", "chapter 2 and chapter 10"),
        ("{doc}`the page <../book/replication>`", "the page"),
        ("{doc}`../book/replication`", "*Replication table* (on the site)"),
        ("{ref}`ex-own-image`", "*own image*"),
        ("{cite:t}`ghorbani2019` say", "Ghorbani et al. (2019) say"),
        ("so {cite:p}`madry2018,ghorbani2019`.", "so (Mądry et al., 2018; Ghorbani et al., 2019)."),
        ("a `{code}` and $x$ stay, and {unknown}`this`", "a `{code}` and $x$ stay, and {unknown}`this`"),
    ],
)
def test_a_role_becomes_the_name_of_what_it_leads_to(made, text, said):
    assert made.plain(text) == said


def test_an_equation_stands_between_dollars_with_its_label(made):
    one = "```{math}\n:label: eq-one\nx = y\n```"
    assert made.plain(f"A\n\n{one}\n\nB") == "A\n\n$$\nx = y \\tag{one}\n$$\n\nB"
    two = "```{math}\nx &= y \\\\\n&= z\n```"
    assert made.plain(two) == "$$\n\\begin{split}\nx &= y \\\\\n&= z\n\\end{split}\n$$"


def test_boxes_and_exercises_can_be_read(made):
    assert made.plain("```{note}\nOne.\n\nTwo.\n```") == "> **Note**\n>\n> One.\n>\n> Two."
    assert made.plain("````{admonition} Title\n:class: tip\nOne.\n````") == "> **Title**\n>\n> One."
    assert made.plain("```{exercise} Name\n:label: ex-a\n\nDo it.\n```") == "### Exercise: Name (ex-a)\n\nDo it."
    code = "```python\nx = {}\n```"
    assert made.plain(code) == code


def test_a_caption_is_folded(made):
    settings = {"mystnb": {"figure": {"name": "fig-a-b", "caption": "As {eq}`eq-c` says."}}}
    assert made.caption(settings) == (
        "<details><summary>Figure <em>a b</em></summary>\n\nAs equation (c) says.\n\n</details>"
    )
    assert made.caption({}) == ""


def test_nothing_of_the_build_is_left_in_a_student_s_notebook(made):
    """But for links of the site, which a notebook cannot have."""
    editions = importlib.import_module("course_editions")
    exercises = editions.load(ROOT / "book" / "exercises")
    for path in sorted((ROOT / "chapters").glob("*.ipynb")):
        notebook = editions.student_notebook(editions.read(path), path, exercises)
        text = "\n\n".join("".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "markdown")
        assert re.findall(r"\{[a-z:]+\}`[^`]+`", text) == [], path.name
        assert {*re.findall(r"`{3,}\{([a-z-]+)\}", text)} <= {"raw"}, path.name
        assert text.count("$$") % 2 == 0, path.name
        assert json.dumps(notebook)
