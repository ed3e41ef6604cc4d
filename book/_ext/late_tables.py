"""Directives that stand for tables of all pages: `add_late_table`, and what such tables are made of.

What a table says of the pages is known once all of them have been executed. Until then a placeholder stands there; the
pages with placeholders are written again whenever any page has changed.
"""

from docutils import nodes
from myst_nb.sphinx_ import NbMetadataCollector
from sphinx.addnodes import pending_xref
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import SphinxDirective

HAS_LATE_TABLE = "has_late_table"  # in the metadata of a page
MAKERS = {}  # by the name of the directive: what makes the nodes, from the environment of the build


def setup(app):
    app.add_node(Late)
    app.add_post_transform(FillIn)
    app.connect("env-updated", pages_to_write)
    # With a version, pages that were read before this module was there are read again.
    return {"parallel_read_safe": True, "parallel_write_safe": True, "env_version": 1}


def add_late_table(app, name, make):
    """Declare the directive `name`, which shows the nodes that `make(env)` returns once all pages are executed."""
    app.setup_extension("late_tables")
    app.add_directive(name, LateTable)
    MAKERS[name] = make


class Late(nodes.General, nodes.Element):
    """Stands for the nodes of the directive of its `name`."""


class LateTable(SphinxDirective):
    def run(self):
        NbMetadataCollector.set_doc_data(self.env, self.env.docname, HAS_LATE_TABLE, True)
        return [Late(name=self.name)]


class FillIn(SphinxPostTransform):
    default_priority = 8  # before links are resolved

    def run(self, **_):
        for node in list(self.document.findall(Late)):
            node.replace_self(MAKERS[node["name"]](self.env))


def pages_to_write(app, env):
    """The pages with such a table: they depend on all others."""
    return [page for page, data in NbMetadataCollector.get_doc_data(env).items() if data.get(HAS_LATE_TABLE)]


# --- What a table is made of ------------------------------------------------------------------------------------------


def executions(env):
    """The record of each executed page, in the order of the book."""
    records = NbMetadataCollector.get_doc_data(env)
    return {docname: records[docname]["exec_data"] for docname in reading_order(env) if "exec_data" in records[docname]}


def reading_order(env, docname=None):
    """Every page of the book, in the order of its table of contents."""
    docname = docname or env.config.root_doc
    yield docname
    for part in env.toctree_includes.get(docname, ()):
        yield from reading_order(env, part)


def link(env, docname):
    """A link to a page, with its title."""
    reference = pending_xref(
        "", refdoc=env.docname, reftarget=f"/{docname}", reftype="doc", refdomain="std", refexplicit=False, refwarn=True
    )
    reference += nodes.inline(text=docname)
    return reference


def table(header, rows):
    """A table of docutils; entries are text or nodes."""

    def row(entries):
        result = nodes.row()
        for entry in entries:
            paragraph = nodes.paragraph()
            paragraph += entry if isinstance(entry, nodes.Node) else nodes.Text(str(entry))
            result += nodes.entry("", paragraph)
        return result

    group = nodes.tgroup(cols=len(header))
    group += [nodes.colspec(colwidth=1) for _ in header]
    group += nodes.thead("", row(header))
    group += nodes.tbody("", *map(row, rows))
    return nodes.table("", group, classes=["colwidths-auto"])
