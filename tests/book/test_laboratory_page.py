"""The extension that puts the laboratory into the built site, on a site of one page."""

import io
import json
import re
import threading
from pathlib import Path

import pytest
from written import small

from fragile_utils import laboratory

ROOT = Path(__file__).resolve().parents[2]
application = pytest.importorskip("sphinx.application", reason="the book's packages are not installed")
docutils_namespace = pytest.importorskip("sphinx.util.docutils").docutils_namespace


@pytest.fixture(scope="module")
def laboratory_page():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "book" / "_ext")
        import laboratory_page

        patch.setattr(laboratory, "of_the_book", lambda: [small("gradient")])
        yield laboratory_page


def build(folder, builder="html"):
    """Build a site of one page in a folder, again where there is one, and return where it is."""
    source, out = folder / "source", folder / "build" / builder
    source.mkdir(exist_ok=True)
    (source / "conf.py").write_text("extensions = ['laboratory_page']\n")
    (source / "index.rst").write_text("Title\n=====\n")
    streams = {"status": io.StringIO(), "warning": io.StringIO()}
    with docutils_namespace():
        app = application.Sphinx(source, source, out, folder / "trees", builder, warningiserror=True, **streams)
        app.build()
    return out


@pytest.fixture(scope="module")
def built(laboratory_page, tmp_path_factory):
    """A folder in which the site was built."""
    folder = tmp_path_factory.mktemp("site")
    build(folder)
    return folder


def test_the_site_holds_a_whole_laboratory_with_links_to_the_book(built):
    folder = built / "build" / "html" / "laboratory"
    manifest = json.loads((folder / "models" / "manifest.json").read_text())
    assert [network["name"] for network in manifest["networks"]] == ["cifar10"]
    page = (folder / "index.html").read_text()
    assert page.count('href="../book/index.html"') == 1
    (chapter,) = re.findall('href="../chapters/(.*).html#budgets"', page)
    source = (ROOT / "chapters" / f"{chapter}.ipynb").read_text()
    assert '"## Budgets\\n"' in source
    assert "EpsilonSlider(" in source[source.index('"## Budgets') :]
    assert "<!-- book" not in page
    for name in ("js/main.js", "vendor/ort/LICENSE.txt", f"examples/{manifest['examples'][0]['file']}"):
        assert (folder / name).is_file()


def test_what_was_written_for_this_version_of_the_package_is_not_written_again(built, monkeypatch):
    folder = built / "build" / "html" / "laboratory"
    (folder / "stale.js").write_text("of an earlier version")
    monkeypatch.setattr(laboratory, "write", lambda *given: pytest.fail("it is there already"))
    build(built)
    assert not (folder / "stale.js").exists()
    assert (folder / "models" / "manifest.json").exists()


def test_pages_are_executed_while_the_laboratory_is_written(laboratory_page, tmp_path, monkeypatch):
    """The thread goes on until the pages have been executed, which happens where Sphinx is about to read them."""
    executed = threading.Event()
    write = laboratory.write

    def write_when_executed(*given):
        assert executed.wait(60), "the build waits for the laboratory before it executes pages"
        return write(*given)

    def setup(app):
        laboratory_page_setup(app)
        app.connect("env-before-read-docs", lambda *given: executed.set())

    laboratory_page_setup = laboratory_page.setup
    monkeypatch.setattr(laboratory_page, "setup", setup)
    monkeypatch.setattr(laboratory, "write", write_when_executed)
    assert (build(tmp_path) / "laboratory" / "index.html").exists()


def test_other_builders_have_none(laboratory_page, tmp_path):
    assert not (build(tmp_path, "text") / "laboratory").exists()


def test_a_laboratory_that_cannot_be_written_fails_the_build_and_says_why(laboratory_page, tmp_path, monkeypatch):
    def refuse(*given):
        raise ValueError("no such operator")

    monkeypatch.setattr(laboratory, "write", refuse)
    with pytest.raises(Exception, match="the laboratory cannot be written: no such operator"):
        build(tmp_path)


def test_a_page_without_places_for_the_links_is_refused(laboratory_page):
    with pytest.raises(Exception, match="no single place for a link"):
        laboratory_page.with_links("<!-- book: back -->")
