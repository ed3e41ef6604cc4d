"""Predict first: a question before its answer is on the page, answered without a kernel.

In the chapter it is Markdown with `<details>`: what is chosen is opened, in Jupyter, on Colab, and in a browser without
scripts. On a page of the site a small script of ours makes a form of it, with the choices as radio buttons or a field
for a number, and keeps the answer back until the reader has committed herself. It stands in the page itself.
"""

import html
from pathlib import Path

NAME = "fragile-predict"  # the class of a block
SCRIPT = Path(__file__).with_name("predict_blocks.js")


def setup(app):
    app.connect("html-page-context", add_script)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def add_script(app, pagename, templatename, context, doctree):
    if f'class="{NAME}"' in context.get("body", ""):
        app.add_js_file(None, body=SCRIPT.read_text(encoding="utf-8"))


def as_markdown(exercise):
    """The block of a prediction, as a cell of its chapter has it."""
    number = exercise.estimate
    data = "" if number is None else f' data-value="{number.value:g}" data-within="{number.within:g}"'
    unit = html.escape(number.unit) if number is not None else ""
    data += f' data-unit="{unit}"' if unit else ""
    parts = [f'<div class="{NAME}" id="{exercise.label}"{data}>', f"**Predict first.** {exercise.statement}"]
    if number is None:
        for choice in exercise.choices:
            name, word = ("right", "Right.") if choice.right else ("wrong", "No.")
            parts += folded(name, html.escape(choice.text), f"**{word}** {choice.reply}")
    else:
        told = f"It is {number.value:g} {unit}".strip()
        parts += folded("right", "What it is", f"**{told}.**")
        parts += folded("low", "If you said less", f"**You said less.** {number.low}")
        parts += folded("high", "If you said more", f"**You said more.** {number.high}")
    why = "\n\n".join(cell.text for cell in exercise.solution)
    return "\n\n".join([*parts, *folded("why", "Why", why), "</div>"])


def folded(name, summary, text):
    return [f'<details class="{name}">\n<summary>{summary}</summary>', text, "</details>"]


def as_question(exercise):
    """The same without its answer, for a student's notebook."""
    asked = [f"**Predict first.** {exercise.statement}"]
    if exercise.choices:
        asked.append("\n".join(f"- {choice.text}" for choice in exercise.choices))
    return "\n\n".join([*asked, "*Write your prediction down before you run the cells that follow.*"])
