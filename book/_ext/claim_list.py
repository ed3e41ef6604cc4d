"""The directive ``claim-list``: every claim that the chapters checked in this build, the loosest bounds first.

`fragile_utils.claims.check` writes each claim into the page as JSON. The directive reads the pages when all of them
have been executed.
"""

import html
import json
import math
import re
import statistics

from build_status import link, pages_marked, reading_order, table
from docutils import nodes
from myst_nb.sphinx_ import NbMetadataCollector
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import SphinxDirective

HAS_CLAIMS = "has_claim_list"
CLOSE = 2  # bounds are within twice what was measured, unless the cell says why
RECORD = re.compile(r'<details class="fragile-check" data-claim="([^"]*)">')


def setup(app):
    app.add_node(ClaimsPlaceholder)
    app.add_directive("claim-list", ClaimList)
    app.add_post_transform(FillIn)
    app.connect("env-updated", pages_to_write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


class ClaimsPlaceholder(nodes.General, nodes.Element):
    """Stands for the tables until every page has been executed."""


class ClaimList(SphinxDirective):
    """A summary in words, and a table with a row for each claim."""

    def run(self):
        NbMetadataCollector.set_doc_data(self.env, self.env.docname, HAS_CLAIMS, True)
        return [ClaimsPlaceholder()]


def pages_to_write(app, env):
    """The pages that show the list."""
    return pages_marked(env, HAS_CLAIMS)


def claims_of(document):
    """The claims of a page, from its outputs."""
    for raw in document.findall(nodes.raw):
        for record in RECORD.findall(raw.astext()):
            claim = json.loads(html.unescape(record))
            yield claim | {"slack": math.inf if claim["slack"] == "inf" else claim["slack"]}


class FillIn(SphinxPostTransform):
    default_priority = 8  # before links are resolved

    def run(self, **_):
        for placeholder in list(self.document.findall(ClaimsPlaceholder)):
            pages = [name for name in reading_order(self.env) if name in self.env.found_docs]
            found = [(name, claim) for name in pages for claim in claims_of(self.env.get_doctree(name))]
            placeholder.replace_self(tables(self.env, found))


def tables(env, found):
    """What is said of claims, pairs of a page and a claim."""
    bounds = sorted(
        (pair for pair in found if pair[1]["slack"] is not None), key=lambda pair: pair[1]["slack"], reverse=True
    )
    rows = [
        [link(env, page), claim["statement"], claim["measured"], claim["required"], slack(claim), claim["because"]]
        for page, claim in bounds
    ]
    return [
        nodes.paragraph(text=summary([claim for _, claim in found])),
        table(["page", "claim", "measured", "required", "slack", "why no closer"], rows),
    ]


def slack(claim):
    """How far the bound is from what was measured, as it is shown."""
    return "∞" if math.isinf(claim["slack"]) else f"{claim['slack']:.2f}"


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
