"""A browser for the tests: a server of a folder, and a tab in which that folder is all there is."""

import functools
import http.server
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from types import MappingProxyType

import pytest

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
BROWSERS = "chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"  # the first is the fastest
PATIENCE = 120_000  # milliseconds, for machines that are busy
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
ISOLATED = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def __init__(self, *args, headers=MappingProxyType({}), **options):
        self.also_sent = headers
        super().__init__(*args, **options)

    def end_headers(self):
        for name, value in self.also_sent.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *args):
        pass


@contextmanager
def served(folder, handler=QuietHandler, **options) -> Iterator[str]:
    """The address of a server of `folder` on this machine; with `headers`, it sends them with each answer."""
    handler = functools.partial(handler, directory=folder, **options)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])  # seconds between looks at shutdown
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def chromium(*flags: str):
    """The browser; the test is skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make test installs it")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser to look at the pages in: install {BROWSERS[0]} or {BROWSERS[1]}")
    with _session(playwright) as session:
        browser = session.chromium.launch(executable_path=found, args=[*FLAGS, *flags])
        try:
            yield browser
        finally:
            browser.close()


_sessions: list = []  # one for each browser that is open, all the same: a second beside it is refused


@contextmanager
def _session(playwright):
    session = _sessions[-1] if _sessions else playwright.sync_playwright().start()
    _sessions.append(session)
    try:
        yield session
    finally:
        _sessions.pop()
        if not _sessions:  # nothing else may wait for anything while one is there
            session.stop()


@contextmanager
def watched(browser, site, known=(), **options):
    """A tab in which `site` is all there is, and the list of what went wrong in it, but for `known` messages."""
    with browser.new_context(**{"viewport": DESK, **options}) as context:
        problems = []

        def admit(route):
            if route.request.url.startswith(site):
                route.continue_()
            else:
                problems.append(f"asks another host: {route.request.url}")
                route.abort()

        def hear(message):
            if message.type == "error" and not any(text in message.text for text in known):
                problems.append(f"console: {message.text}")

        context.set_default_timeout(PATIENCE)
        context.route("**/*", admit)
        tab = context.new_page()
        tab.on(
            "response",
            lambda answer: problems.append(f"{answer.status} {answer.url}") if answer.status >= 400 else None,
        )
        tab.on("requestfailed", lambda request: problems.append(f"failed: {request.url}"))
        tab.on("pageerror", lambda error: problems.append(f"script: {error}"))
        tab.on("console", hear)
        yield tab, problems


def axe_script() -> str:
    """The script of axe-core, from the pip package that carries it."""
    try:
        files = metadata.files("axe-playwright-python") or ()
    except metadata.PackageNotFoundError:
        pytest.skip("axe-playwright-python is not installed: make test installs it")
    [script] = [file for file in files if file.name == "axe.min.js"]
    return script.locate().read_text(encoding="utf-8")
