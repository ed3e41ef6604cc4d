"""The role ``{chapter}`10` ``: a link to chapter 10, by the number in its file name, with its title.

A chapter that is not written yet is named as such, so that pages about the whole book can speak of it.
"""

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.util.docutils import SphinxRole

LAST = 23


def setup(app):
    app.add_role("chapter", Chapter())
    return {"parallel_read_safe": True, "parallel_write_safe": True}


class Chapter(SphinxRole):
    def run(self):
        if not (self.text.isdecimal() and 1 <= int(self.text) <= LAST):
            message = f"chapter: expected a number from 1 to {LAST}, got {self.text!r}"
            return [], [self.inliner.reporter.error(message, line=self.lineno)]
        docname = find(self.env.found_docs, int(self.text))
        if docname is None:
            return [nodes.inline(text=f"chapter {int(self.text)} (in preparation)")], []
        link = pending_xref(
            self.rawtext,
            refdoc=self.env.docname,
            reftarget=f"/{docname}",
            reftype="doc",
            refdomain="std",
            refexplicit=False,
            refwarn=True,
        )
        link += nodes.inline(text=docname)
        return [link], []


def find(docnames, number):
    """The page of the chapter with this number, or None."""
    return next((name for name in docnames if name.startswith(f"chapters/{number:02d}_")), None)
