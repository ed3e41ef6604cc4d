"""The laboratory in the built site: page, graphs, weights and photographs, in the folder ``laboratory/``.

The package writes them (`fragile_utils.laboratory`); what was written is kept beside the site, in a folder named after
the contents of the package, like the executed notebooks. In the book the page has links back, which it has not alone.

Writing takes minutes of one core, and the build does not wait for it: a thread writes while the pages are executed in
processes of their own (`parallel_execution`). Sphinx reads no page before both are done.
"""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fragile_book
from sphinx.errors import ExtensionError

FOLDER = "laboratory"  # in the built site
BOOK = "../book/index.html"  # seen from there
SLIDER = "../chapters/10_topk_attack.html#budgets"
LINKS = {  # what stands for them in the page
    "<!-- book: back -->": f'<p class="back"><a href="{BOOK}">Back to the book: can I trust this explanation?</a></p>',
    "<!-- book: instead -->": f' <a href="{SLIDER}">The sliders of the book</a>, which need none of that, show attacks '
    "that were computed when it was built.",
}


def setup(app):
    app.connect("builder-inited", begin)
    app.connect("env-before-read-docs", place, priority=900)  # after the pages have been executed
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def begin(app):
    """Have the laboratory written, beside whatever the build does meanwhile."""
    if app.builder.format == "html":
        with_one_thread = ThreadPoolExecutor(1)
        app.laboratory = with_one_thread.submit(written, Path(app.outdir).parent / ".laboratory")
        with_one_thread.shutdown(wait=False)


def place(app, env, docnames):
    """Copy what was written into the site."""
    if app.builder.format != "html":
        return
    target = Path(app.outdir, FOLDER)
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(app.laboratory.result(), target)
    page = target / "index.html"
    page.write_text(with_links(page.read_text(encoding="utf-8")), encoding="utf-8")


def written(parent):
    """The laboratory of this version of the package, in `parent`: written now if it is not there yet."""
    folder = fragile_book.cache_folder(parent)
    if not (folder / "models" / "manifest.json").exists():
        try:
            from fragile_utils import laboratory

            laboratory.write(folder, laboratory.of_the_book())
        except (ImportError, OSError, ValueError) as error:
            raise ExtensionError(f"the laboratory cannot be written: {error}") from error
    return folder


def with_links(page):
    """Return the source of the page with the links to the book."""
    for place, link in LINKS.items():
        if page.count(place) != 1:
            raise ExtensionError(f"the laboratory's page has no single place for a link to the book: {place}")
        page = page.replace(place, link)
    return page
