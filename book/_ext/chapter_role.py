"""The role ``{chapter}`10` ``: a link to chapter 10, by the number in its file name, with its title."""

from late_tables import link
from sphinx.util.docutils import SphinxRole


def setup(app):
    app.add_role("chapter", Chapter())
    return {"parallel_read_safe": True, "parallel_write_safe": True}


class Chapter(SphinxRole):
    def run(self):
        docname = find(self.env.found_docs, int(self.text)) if self.text.isdecimal() else None
        if docname is None:
            message = f"chapter: expected the number of a chapter, got {self.text!r}"
            return [], [self.inliner.reporter.error(message, line=self.lineno)]
        return [link(self.env, docname)], []


def find(docnames, number):
    """The page of the chapter with this number, or None."""
    return next((name for name in docnames if name.startswith(f"chapters/{number:02d}_")), None)
