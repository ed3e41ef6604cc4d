"""JupyterLab itself, in a browser, as a student meets it.

Her notebook is run from top to bottom, a slider is moved by keyboard, answers are typed and graded, and the live
widget attacks and is stopped.
"""

import os
import re
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from importlib import util
from pathlib import Path

import browsing
import nbformat
import pytest

from fragile_utils.course import load

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = "16_attacking_influence.ipynb"  # short, with a slider and an exercise that tests itself
LABEL = "ex-influence-step"
LIVE = "from fragile_utils.plots import widgets\n\nwidgets.LiveAttack()"  # as the page on how to use the book has it
SETTINGS = {  # every cell is on the page, wherever it is scrolled to; nobody is asked whether she wants news
    "notebook-extension/tracker": '{"windowingMode": "none"}',
    "apputils-extension/notification": '{"fetchNews": "false", "checkForUpdates": false}',
}
ALL_CELLS = 1_200_000  # milliseconds, on a machine that is busy
KNOWN = ("Could not determine jupyter lab build status",)  # it looks for Node.js, which nothing needs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not util.find_spec("jupyterlab"), reason="jupyterlab is not installed: make test installs it"),
]


# --- A server with a student's notebook -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the student's notebook of a chapter, and one cell more at its end."""
    sys.path.insert(0, str(ROOT / "book" / "_ext"))
    try:
        import course_editions as editions
    finally:
        sys.path.pop(0)
    path = ROOT / "chapters" / NOTEBOOK
    made = editions.student_notebook(editions.read(path), path, load(ROOT / "book" / "exercises"))
    notebook = nbformat.reads(editions.as_text(made), as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(LIVE))
    folder = tmp_path_factory.mktemp("student")
    nbformat.write(notebook, folder / NOTEBOOK)
    return folder


@pytest.fixture(scope="module")
def lab(folder, tmp_path_factory):
    """The address of JupyterLab on this machine, with settings of its own, and the token that it asks for."""
    own = tmp_path_factory.mktemp("jupyter")
    for name, text in SETTINGS.items():
        path = own / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    kinds = {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime"}
    kinds |= {"IPYTHONDIR": "ipython", "JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces"}
    environment = os.environ | {name: str(own / kind) for name, kind in kinds.items()}
    port, token = free_port(), secrets.token_hex()
    options = {"ServerApp.port": port, "ServerApp.port_retries": 0, "IdentityProvider.token": token}
    options |= {"ServerApp.root_dir": folder, "ServerApp.open_browser": False, "ServerApp.allow_root": True}
    command = [sys.executable, "-m", "jupyterlab", *(f"--{name}={value}" for name, value in options.items())]
    with open(own / "log.txt", "w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            address = f"http://127.0.0.1:{port}/"
            wait_for(f"{address}api", server, own / "log.txt")
            yield address, token
        finally:
            server.terminate()
            server.wait()


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def wait_for(address, server, log, seconds=120):
    """Return when something answers at the address."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.poll() is None:
        try:
            return urllib.request.urlopen(address)
        except OSError:
            time.sleep(0.5)
    raise RuntimeError(f"JupyterLab did not come up: {log.read_text()[-2000:]}")


# --- What a student does ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def opened(browser, lab):
    """The notebook in JupyterLab, all of its cells run, and what went wrong in the browser."""
    address, token = lab
    with browsing.watched(browser, address, KNOWN) as (tab, problems):
        tab.goto(f"{address}lab/tree/{NOTEBOOK}?token={token}")
        tab.locator(".jp-Notebook .jp-CodeCell").first.wait_for()
        tab.get_by_text(re.compile(r"\| Idle$")).wait_for()  # who runs a cell before is asked for a kernel
        tab.get_by_role("menuitem", name="Run", exact=True).click()
        tab.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        tab.wait_for_function(HAVE_RUN, timeout=ALL_CELLS)
        yield tab, problems


# Cells run one after the other, and the first error ends it. Of cells whose code is folded no number is shown.
HAVE_RUN = """() => {
    const last = [...document.querySelectorAll('.jp-CodeCell')].at(-1);
    const error = document.querySelector("[data-mime-type='application/vnd.jupyter.error']");
    return Boolean(error) || /\\[\\d+\\]:/.test(last.innerText);
}"""


def cells(tab, text):
    """The cells whose code has this text."""
    return tab.locator(".jp-CodeCell").filter(has=tab.locator(".jp-InputArea-editor", has_text=text))


def test_every_cell_runs_without_an_error(opened, folder):
    tab, problems = opened
    assert tab.locator(".jp-CodeCell").count() > 30
    assert tab.locator("[data-mime-type='application/vnd.jupyter.error'], [data-mime-type$='stderr']").count() == 0
    assert tab.locator("figure img, .jp-OutputArea-output img").count() > 3
    assert problems == []


def test_a_slider_moves_by_keyboard(opened):
    tab, problems = opened
    slider = tab.locator(".fragile-slider")
    control = slider.get_by_role("slider")
    control.focus()
    tab.keyboard.press("Home")
    seen = []
    for _ in range(int(control.get_attribute("max")) + 1):
        visible = slider.locator("[data-frame]:visible")
        assert visible.count() == 1
        assert slider.get_by_role("status").inner_text() == visible.get_attribute("data-text")
        seen.append(visible.get_attribute("data-frame"))
        tab.keyboard.press("ArrowRight")
    assert len(seen) == len({*seen}) == slider.locator("[data-frame]").count() > 2
    assert tab.evaluate("document.activeElement.type") == "range", "the arrow went to JupyterLab"
    assert problems == []


def answered(tab, answer):
    """What `grade` says when the cell of the exercise is written over, and both are run as a student runs them."""
    cells(tab, "def influence_step").locator(".cm-content").click()
    tab.keyboard.press("ControlOrMeta+a")
    tab.keyboard.insert_text(answer)
    tab.keyboard.press("Shift+Enter")
    grade = cells(tab, f'grade("{LABEL}")')
    before = grade.locator(".jp-InputPrompt").inner_text()
    tab.keyboard.press("Shift+Enter")
    wait = "([cell, before]) => /\\[\\d+\\]/.test(cell.innerText) && !cell.innerText.includes(before)"
    tab.wait_for_function(wait, arg=[grade.element_handle(), before])
    return grade.locator(".fragile-grade").inner_text()


def test_grade_answers(opened):
    tab, problems = opened
    exercise = load(ROOT / "book" / "exercises")[LABEL]
    assert "not written yet" in cells(tab, f'grade("{LABEL}")').locator(".fragile-grade").inner_text()
    for wrong in exercise.wrong[:2]:
        said = answered(tab, f"import torch\n\n\n{wrong.code}")
        assert said.startswith(f"✗ {LABEL}: ")
        assert wrong.says in said
    assert f"✓ {LABEL}: 2 of 2 tests passed" in answered(tab, exercise.answer)
    assert problems == []


def test_the_live_widget_attacks_and_stops(opened):
    tab, problems = opened
    live = cells(tab, "widgets.LiveAttack").locator(".jp-OutputArea")
    steps = live.locator(".widget-hslider", has_text="steps").get_by_role("slider")
    status = live.get_by_role("status")

    image = live.locator("select").first
    image.select_option(label=image.locator("option", has_text="folding chair").inner_text())
    steps.focus()
    tab.keyboard.press("End")  # 300: there is time to stop it
    live.get_by_role("button", name="Attack").click()
    stop = live.get_by_role("button", name="Stop")
    bar = live.locator(".progress-bar").element_handle()
    tab.wait_for_function("bar => parseFloat(bar.style.width) > 0.9", arg=bar)  # per cent: three steps
    stop.click()
    status.filter(has_text=re.compile("^Stopped: the best so far")).wait_for()
    assert stop.is_disabled()
    assert live.locator("img.widget-image:visible").count() == 1

    steps.focus()
    tab.keyboard.press("Home")
    for _ in range(4):
        tab.keyboard.press("ArrowRight")
    live.get_by_role("button", name="Attack").click()
    status.filter(has_text=re.compile(r"^The label is kept .* from step \d\.$")).wait_for()
    assert problems == []
