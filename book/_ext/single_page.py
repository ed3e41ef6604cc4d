"""The whole book on one page (Sphinx's builder ``singlehtml``), made to work with a root page in a folder.

Sphinx writes ``book/index.html``, but all its paths are those of a page in the folder above. So it goes there, and
links to itself lose the name of the page. And where one extension names this builder among those that it writes for,
Sphinx asks no other for its ways of writing HTML: they are handed over here.
"""

from pathlib import Path


def setup(app):
    app.connect("builder-inited", write_as_html)
    app.connect("build-finished", move_up, priority=100)  # before a redirect is written where it goes
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def write_as_html(app):
    handlers = app.registry.translation_handlers
    if app.builder.name == "singlehtml":
        handlers["singlehtml"] = {**handlers.get("html", {}), **handlers.get("singlehtml", {})}


def move_up(app, exception):
    if app.builder.name != "singlehtml" or exception:
        return
    written = Path(app.outdir, f"{app.config.root_doc}.html")
    page = written.read_text(encoding="utf-8").replace(f'href="{app.config.root_doc}.html#', 'href="#')
    page = page.replace(f'href="#document-{app.config.root_doc}"', 'href="#"')
    Path(app.outdir, "index.html").write_text(page, encoding="utf-8")
    written.unlink()
