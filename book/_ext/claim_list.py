"""The directive ``claim-list``: every claim that the chapters checked in this build, the loosest bounds first.

Those whose bound is close stand folded below the others.

`fragile_utils.claims.check` writes each claim into the page as JSON. The directive reads the pages when all of them
have been executed.
"""

import html
import json
import math
import re
import statistics

from docutils import nodes
from late_tables import add_late_table, link, reading_order, table

CLOSE = 2  # bounds are within twice what was measured, unless the cell says why
MOST = 100  # a larger slack is not written out
HEADER = ["page", "claim", "measured", "required", "slack", "why no closer"]
RECORD = re.compile(r'<details class="fragile-check" data-claim="([^"]*)">')


def setup(app):
    add_late_table(app, "claim-list", claim_list)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def claims_of(document):
    """The claims of a page, from its outputs."""
    for raw in document.findall(nodes.raw):
        for record in RECORD.findall(raw.astext()):
            claim = json.loads(html.unescape(record))
            yield claim | {"slack": math.inf if claim["slack"] == "inf" else claim["slack"]}


def claim_list(env):
    """A summary in words, and two tables with a row for each claim; that of close bounds is folded."""
    pages = [name for name in reading_order(env) if name in env.found_docs]
    return tables(env, [(name, claim) for name in pages for claim in claims_of(env.get_doctree(name))])


def tables(env, found):
    """What is said of claims, pairs of a page and a claim."""
    bounds = sorted(
        (pair for pair in found if pair[1]["slack"] is not None), key=lambda pair: pair[1]["slack"], reverse=True
    )
    wide = [pair for pair in bounds if pair[1]["slack"] > CLOSE]
    close = bounds[len(wide) :]
    shown = [nodes.paragraph(text=summary([claim for _, claim in found]))]
    if wide:
        shown.append(table(HEADER, rows(env, wide)))
    if close:
        title = f"The {len(close)} claims with a slack of {CLOSE} or less"
        folded = nodes.title(text=title), table(HEADER, rows(env, close))
        shown.append(nodes.admonition("", *folded, classes=["dropdown"]))
    return shown


def rows(env, pairs):
    """The rows of a table of claims."""
    return [
        [link(env, page), claim["statement"], claim["measured"], claim["required"], slack(claim), claim["because"]]
        for page, claim in pairs
    ]


def slack(claim):
    """How far the bound is from what was measured, as it is shown."""
    if math.isinf(claim["slack"]):
        return "∞"
    return f"> {MOST}" if claim["slack"] > MOST else f"{claim['slack']:.2f}"


def summary(claims):
    """The claims in two sentences."""
    slacks = [claim["slack"] for claim in claims if claim["slack"] is not None]
    if not slacks:
        return f"{len(claims)} claims were checked."
    wide = sum(value > CLOSE for value in slacks)
    return (
        f"{len(claims)} claims were checked. {len(slacks)} of them have a bound beside what was measured: the median "
        f"slack is {statistics.median(slacks):.2f}, and {wide} are above {CLOSE}."
    )
