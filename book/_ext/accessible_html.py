"""Two habits of Sphinx's HTML that readers with a screen reader stumble over, mended in each page.

A signature on several lines is written as a list of definitions without terms: here it becomes lines. The bibliography
is announced as a list, but its entries are not items of one: here it is not announced.
"""

import re

PARAMETER = r'<dd>(<em class="sig-param">.*)</dd>\n'
SIGNATURE = re.compile(rf"<dl>\n((?:{PARAMETER})+)</dl>\n")


def setup(app):
    app.connect("html-page-context", mend_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def mend_page(app, pagename, templatename, context, doctree):
    if "body" in context:
        context["body"] = mend(context["body"])


def mend(html):
    """Return the HTML of a page, mended."""
    html = html.replace('<div role="list" class="citation-list">', '<div class="citation-list">')
    return SIGNATURE.sub(lambda found: re.sub(PARAMETER, r'<span class="sig-line">\1</span>', found[1]), html)
