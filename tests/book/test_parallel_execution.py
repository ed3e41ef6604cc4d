"""Pages are executed side by side, into the cache in which myst-nb looks for them."""

import importlib
import json
import logging
import os
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
pytest.importorskip("myst_nb", reason="the book's packages are not installed")
KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}


@pytest.fixture
def extension(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "book" / "_ext")
    return importlib.import_module("parallel_execution")


@pytest.fixture
def book(tmp_path):
    """A Sphinx application as far as the extension looks at it, and a function that writes a page."""
    from myst_nb.core.config import NbParserConfig
    from myst_parser.config.main import MdParserConfig

    def write(name, source):
        notebook = nbformat.v4.new_notebook(metadata=KERNEL, cells=[nbformat.v4.new_code_cell(source)])
        nbformat.write(notebook, tmp_path / f"{name}.ipynb")

    (tmp_path / "prose.md").write_text("# No code")
    config = NbParserConfig(execution_mode="cache", execution_cache_path=str(tmp_path / "cache"))
    find = lambda name: str(tmp_path / (f"{name}.md" if name == "prose" else f"{name}.ipynb"))  # noqa: E731
    env = SimpleNamespace(mystnb_config=config, myst_config=MdParserConfig(), doc2path=find)
    return SimpleNamespace(srcdir=tmp_path, env=env, write=write)


def cache_of(book):
    from jupyter_cache import get_cache

    return get_cache(book.env.mystnb_config.execution_cache_path)


def record(extension, book, name):
    """What the cache holds about the execution of a page."""
    return cache_of(book).match_cache_notebook(extension.read(book.env, name))


def output(extension, book, name):
    """What the page printed, from the cache."""
    found = record(extension, book, name)
    assert found.data["execution_seconds"] > 0
    return cache_of(book).get_cache_bundle(found.pk).nb.cells[0].outputs[0].text.strip()


def test_pages_are_executed_once_and_a_page_that_fails_costs_the_others_nothing(extension, book, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(logging.getLogger("sphinx"), "handlers", [])  # those of an application that stops at a warning
    threads = "import os; print(os.environ['OMP_NUM_THREADS'], {0})"
    for name in ("one", "two"):
        book.write(name, threads.format(repr(name)))
    book.write("broken", "raise RuntimeError('on purpose')")
    with pytest.raises(extension.ExtensionError, match=r"^1 of 3 pages could not be executed: broken\.ipynb$"):
        extension.execute_pages(book, book.env, ["broken", "one", "prose", "two"])
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    share = str(cores // min(cores, extension.MOST_KERNELS))
    assert [output(extension, book, name) for name in ("one", "two")] == [f"{share} one", f"{share} two"]
    assert "OMP_NUM_THREADS" not in os.environ

    monkeypatch.setattr(extension, "execute", None)  # what is known is not executed again
    extension.execute_pages(book, book.env, ["one", "prose", "two"])


def notebook(code):
    prose = nbformat.v4.new_markdown_cell("word " * 99)
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code), prose])


def test_pages_that_take_longest_go_first_and_those_never_executed_before_them(extension):
    pages = {"quick": notebook("code = 'long'"), "slow": notebook("1"), "short": notebook("2"), "new": notebook("3, 3")}
    assert extension.longest_first(pages, {"quick": 1.5, "slow": 20.0}) == ["new", "short", "slow", "quick"]


def test_how_long_a_page_took_outlives_the_cache(extension, book):
    """What is noted beside the cache is what the cache holds, and what is known of other pages stays."""
    noted = book.srcdir / "seconds.json"
    noted.write_text(json.dumps({"other.ipynb": 7.0}))
    book.write("page", "1 + 1")
    extension.execute_pages(book, book.env, ["page"])
    seconds = json.loads(noted.read_text())
    assert set(seconds) == {"other.ipynb", "page.ipynb"}
    assert seconds["other.ipynb"] == 7.0
    assert seconds["page.ipynb"] == pytest.approx(record(extension, book, "page").data["execution_seconds"], abs=0.05)


def test_a_number_of_threads_that_is_set_stays(extension, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    with extension.kernels() as number:
        assert number >= 1
        assert os.environ["OMP_NUM_THREADS"] == "7"
    assert os.environ["OMP_NUM_THREADS"] == "7"


def test_threads_that_wait_let_other_kernels_compute(extension, monkeypatch):
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    with extension.kernels():
        assert os.environ["GOMP_SPINCOUNT"] == "10000"
    assert "GOMP_SPINCOUNT" not in os.environ
