"""Markdown of MyST as Jupyter and Colab show it: a student's notebook is read there, not on the site.

Directives and roles are what only the build understands. An equation becomes one between dollars, with its label as a
tag; a box becomes a quotation; an exercise a heading; a reference the name of what it leads to.
"""

import re
from functools import cache
from unicodedata import normalize

from repository_url import ROOT

FENCE = re.compile(r"^(`{3,})\{([a-z-]+)\} *([^\n]*)\n(.*?)^\1$", flags=re.MULTILINE | re.DOTALL)
OPTION = re.compile(r"^:([a-z-]+): *(.*)\n", flags=re.MULTILINE)
ROLE = re.compile(r"\{([a-z:]+)\}`([^`]+)`")
ACCENT = re.compile(r"""\{?\\(['"`k])\{?(\w)\}*""")  # as BibTeX writes it: {\'e}, {\k{a}}
ACCENTS = {"'": "\u0301", '"': "\u0308", "`": "\u0300", "k": "\u0328"}
TARGET = re.compile(r"(.*?) *<(.+)>")  # of a role that says how it is to be called


def plain(text):
    """The text without directives and roles. What is unknown stays as it is."""
    return ROLE.sub(lambda found: role(found[1], found[2]) or found[0], FENCE.sub(directive, text))


def caption(settings):
    """The caption of a figure, folded, from the metadata of the cell that draws it; empty if it draws none.

    Folded, since it says what one sees, which is to be predicted first.
    """
    figure = settings.get("mystnb", {}).get("figure")
    if figure is None:
        return ""
    said = plain(figure["caption"])
    return f"<details><summary>Figure <em>{called(figure['name'])}</em></summary>\n\n{said}\n\n</details>"


# --- Directives -------------------------------------------------------------------------------------------------------


def directive(found):
    _, kind, title, body = found.groups()
    options = dict(OPTION.findall(body))
    body = OPTION.sub("", body).strip("\n")
    if kind == "math":
        return equation(body, options.get("label", ""))
    if kind == "exercise":
        return f"### Exercise: {title} ({options['label']})\n\n{body}"
    if kind in ("admonition", "note", "warning"):
        return "\n".join(f"> {line}".rstrip() for line in [f"**{title or kind.capitalize()}**", "", *body.splitlines()])
    return found[0]


def equation(body, label):
    lines = f"\\begin{{split}}\n{body}\n\\end{{split}}" if "\\\\" in body else body  # as Sphinx has it
    return f"$$\n{lines}{f' {chr(92)}tag{{{called(label)}}}' if label else ''}\n$$"


def called(label):
    """What a label says in words: "random sign" for "eq-random-sign"."""
    return label.partition("-")[2].replace("-", " ")


# --- Roles ------------------------------------------------------------------------------------------------------------


def role(kind, text):
    """What a reference is called; None if it is of no kind that is known."""
    said, target = match.groups() if (match := TARGET.fullmatch(text)) else ("", text)
    if kind == "eq":
        return f"equation ({called(target)})"
    if kind == "numref":
        return f"figure *{called(target)}*"
    if kind == "chapter":
        return f"chapter {int(target)}"
    if kind == "ref":
        return said or f"*{called(target)}*"
    if kind == "doc":
        return said or title_of(target)
    if kind in ("cite:t", "cite:p"):
        works = [works_by_key()[key.strip()] for key in target.split(",")]
        if kind == "cite:t":
            return " and ".join(f"{authors} ({year})" for authors, year in works)
        return f"({'; '.join(f'{authors}, {year}' for authors, year in works)})"
    return None


def title_of(target):
    """Chapter and title of a notebook, or the title of a page, of a reference out of a chapter."""
    name = target.rpartition("/")[2]
    if name[:2].isdecimal():
        return f"chapter {int(name[:2])}"
    [path] = ROOT.glob(f"book/**/{name}.md")
    title = re.search(r"^# (.+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1]
    return f"*{title}* (on the site)"


@cache
def works_by_key():
    """Authors and year of each work of the bibliography."""
    text = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
    parts = re.split(r"^@\w+\{([^,\s]+),", text, flags=re.MULTILINE)
    works = {}
    for key, entry in zip(parts[1::2], parts[2::2], strict=True):
        fields = dict(re.findall(r"^ *(author|year) *= \{(.+)\},?$", entry, flags=re.MULTILINE))
        works[key] = authors(fields["author"]), fields["year"]
    return works


def authors(field):
    """The last names of one or two authors, else of the first."""
    field = ACCENT.sub(lambda found: normalize("NFC", found[2] + ACCENTS[found[1]]), field)
    names = [re.sub(r"[{}]", "", name.partition(",")[0]).strip() for name in re.split(r" and (?![^{]*\}\})", field)]
    return " and ".join(names) if len(names) < 3 else f"{names[0]} et al."
