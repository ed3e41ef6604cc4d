"""The card that a chapter opens with, the directive ``chapter-card``, and ``chapter-list``, a table of all of them.

A card is written in four lines, which a notebook shows as they are; `able` is a list, parted by semicolons:

    ```{chapter-card}
    question: What is asked?
    able: do this; do that
    needs: what has to be known
    device: what it runs on
    ```

The minutes are not written: `reading_time` measures them. How long the cells ran is what the build saw.
"""

import json
import re
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from late_tables import add_late_table, executions, link, reading_order, table
from myst_nb.sphinx_ import NbMetadataCollector
from reading_time import measure
from sphinx.errors import ExtensionError
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import SphinxDirective

FIELDS = ("question", "able", "needs", "device")
SOURCE = re.compile(r"^(`{3,})\{chapter-card\}\n(.*?)^\1$", re.MULTILINE | re.DOTALL)


def setup(app):
    app.add_node(Seconds)
    app.add_directive("chapter-card", ChapterCard)
    app.add_post_transform(FillIn)
    add_late_table(app, "chapter-list", chapter_table)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


# --- The source -------------------------------------------------------------------------------------------------------


def fields(body):
    """The four fields of a card; ValueError where one is missing, twice, empty or unknown."""
    pairs = re.findall(r"^(\w+): *(.*)$", body, flags=re.MULTILINE)
    if [name for name, _ in pairs] != [*FIELDS] or not all(value.strip() for _, value in pairs):
        raise ValueError(f"chapter-card: expected the lines {', '.join(FIELDS)}, got {[name for name, _ in pairs]}")
    return {name: value.strip() for name, value in pairs}


def aims(card):
    """What the reader will be able to do, item by item."""
    return [aim.strip().rstrip(".") for aim in card["able"].split(";")]


def as_markdown(text, minutes):
    """A Markdown cell with its card as Jupyter and Colab show it, its minutes included."""
    return SOURCE.sub(lambda found: plain(fields(found[2]), minutes), text)


def plain(card, minutes):
    lines = [f"**{card['question']}**", "", "You will be able to", *(f"- {aim}" for aim in aims(card)), ""]
    lines += [f"*You need* {card['needs']}. *Device:* {card['device']}."]
    return "\n".join([*lines, f"*About* {minutes.read} minutes to read, {minutes.work} with cells and exercises."])


# --- On the page ------------------------------------------------------------------------------------------------------


class Seconds(nodes.General, nodes.Element):
    """Stands for how long the page ran, which is known when it has been executed."""


class ChapterCard(SphinxDirective):
    has_content = True

    def run(self):
        try:
            card = fields("\n".join(self.content))
        except ValueError as error:
            raise self.error(str(error)) from error
        minutes = measure(notebook_of(self.env, self.env.docname))
        NbMetadataCollector.set_doc_data(self.env, self.env.docname, "chapter_card", card["question"])
        entries = [
            ("You will be able to", "\n".join(f"- {aim}" for aim in aims(card))),
            ("You need", card["needs"]),
            ("Time", f"{minutes.read} minutes to read, {minutes.work} with its cells and exercises"),
            ("Device", card["device"]),
        ]
        listed = nodes.definition_list("")
        for term, text in entries:
            definition = nodes.definition("", *self.parsed(text))
            listed += nodes.definition_list_item("", nodes.term(text=term), definition)
        listed[-1][-1][0].append(Seconds())
        question = self.parsed(card["question"])
        question[0]["classes"].append("chapter-question")
        return [nodes.container("", *question, listed, classes=["chapter-card"])]

    def parsed(self, text):
        parent = nodes.Element()
        self.state.nested_parse(StringList(text.splitlines(), source=self.env.docname), self.content_offset, parent)
        return parent.children


def notebook_of(env, docname):
    path = Path(env.doc2path(docname))
    if path.suffix != ".ipynb":
        raise ExtensionError(f"{docname}: a card stands in notebooks only")
    return json.loads(path.read_text(encoding="utf-8"))


class FillIn(SphinxPostTransform):
    default_priority = 8  # before links are resolved

    def run(self, **_):
        for node in list(self.document.findall(Seconds)):
            seconds = executions(self.env).get(self.env.docname, {}).get("runtime")
            node.replace_self(nodes.Text(said(seconds)) if seconds else [])


def said(seconds):
    """How long the cells ran, as a half-sentence."""
    return f"; its cells ran for {seconds:.0f} seconds when this page was built"


def chapter_table(env):
    """A table with a row for each chapter: its question, and how long it takes."""
    records = NbMetadataCollector.get_doc_data(env)
    ran = executions(env)
    rows = []
    for docname in filter(lambda name: "chapter_card" in records.get(name, ()), reading_order(env)):
        minutes = measure(notebook_of(env, docname))
        seconds = ran.get(docname, {}).get("runtime")
        entries = [minutes.read, minutes.work, "" if seconds is None else f"{seconds:.0f}"]
        rows.append([link(env, docname), records[docname]["chapter_card"], *entries])
    return table(["chapter", "its question", "minutes to read", "to work through", "seconds to run"], rows)
