"""The whole book on one page (Sphinx's builder ``singlehtml``), made to work with a root page in a folder.

Sphinx writes ``book/index.html``, but all its paths are those of a page in the folder above. So it goes there, and
links to itself lose the name of the page.
"""

from pathlib import Path


def setup(app):
    app.connect("build-finished", move_up, priority=100)  # before a redirect is written where it goes
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def move_up(app, exception):
    if app.builder.name != "singlehtml" or exception:
        return
    written = Path(app.outdir, f"{app.config.root_doc}.html")
    page = written.read_text(encoding="utf-8").replace(f'href="{app.config.root_doc}.html#', 'href="#')
    Path(app.outdir, "index.html").write_text(page, encoding="utf-8")
    written.unlink()
