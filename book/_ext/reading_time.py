"""How long a chapter takes, measured from its cells.

To read it, exercises left out: its words, and in addition its displayed equations, its figures and the lines of code
that are not folded. To work through it: reading, running each cell and looking at what it gives, and its exercises,
for as long as their cards say.
"""

import re
from dataclasses import dataclass

WORDS = 200  # read in a minute, of a text to be understood, in a language that may not be the reader's own
EQUATION = FIGURE = 0.5  # minutes for each
LINES = 30  # of code, read in a minute
RUN = 0.5  # minutes to run a cell and to look at its output
EXERCISE = 15  # minutes for an exercise whose card names none
STEP = 5  # minutes are said in steps of five

BLOCK = re.compile(r"^(`{3,})\{(?:exercise|solution)\}.*?^\1$", re.MULTILINE | re.DOTALL)
GATE = re.compile(r"^`{3,}\{(exercise|solution)-(start|end)\}", re.MULTILINE)
ASKED = re.compile(r"^`{3,}\{exercise(?:-start)?\}", re.MULTILINE)
CARD = re.compile(r"^\*.*about (\d+) minutes\.\*$", re.MULTILINE)  # how an exercise introduces itself
MATH = re.compile(r"^`{3,}\{math\}.*?^`{3,}$|\$\$.*?\$\$", re.MULTILINE | re.DOTALL)
FENCE = re.compile(r"^(`{3,})(?!\{admonition\}).*?^\1$", re.MULTILINE | re.DOTALL)  # code, the card, raw HTML
FOLDED = {"hide-input", "hide-cell", "remove-input", "remove-cell"}


@dataclass(frozen=True)
class Minutes:
    """To read a chapter, and to work through it, in steps of five."""

    read: int
    work: int


def measure(notebook):
    """The `Minutes` of a notebook, as JSON has it."""
    text, code, every = [], [], []
    inside = False
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            kept, inside = outside_exercises(source, inside)
            text.append(kept)
            every.append(source)
        elif cell["cell_type"] == "code" and not inside:
            code.append((cell, source))
    prose, whole = "\n\n".join(text), "\n\n".join(every)
    read = (
        len(words(prose)) / WORDS
        + EQUATION * len(MATH.findall(prose))
        + FIGURE * sum("figure" in cell["metadata"].get("mystnb", {}) for cell, _ in code)
        + sum(len(source.splitlines()) for cell, source in code if not folded(cell)) / LINES
    )
    return Minutes(rounded(read), rounded(read + RUN * len(code) + exercise_minutes(whole)))


def outside_exercises(text, inside):
    """A Markdown cell without exercises and solutions, and whether one of them goes on after it."""
    kept, last = [], 0
    text = BLOCK.sub("", text)
    for gate in GATE.finditer(text):
        if not inside:
            kept.append(text[last : gate.start()])
        inside = gate[2] == "start"
        last = text.find("```", gate.end())
        last = len(text) if last < 0 else last + 3
    if not inside:
        kept.append(text[last:])
    return "".join(kept), inside


def words(text):
    """The words of prose: neither of equations nor of fences."""
    return re.findall(r"[^\W\d_][\w'-]*", FENCE.sub(" ", MATH.sub(" ", text)))


def exercise_minutes(text):
    """What the cards of the exercises say, and `EXERCISE` for each without."""
    stated = [int(minutes) for minutes in CARD.findall(text)]
    return sum(stated) + EXERCISE * max(0, len(ASKED.findall(text)) - len(stated))


def folded(cell):
    return bool(FOLDED & {*cell["metadata"].get("tags", ())})


def rounded(minutes):
    """The nearest multiple of five, and at least five."""
    return max(STEP, STEP * round(minutes / STEP))
