"""What the laboratory makes a browser load, and the time of a step there: ``make bench``.

For each network and method of the book's laboratory: bytes of graphs and weights, and CPU time of a step with one
thread on this machine's onnxruntime. Then the page itself in headless Chromium, where playwright and chromium are
installed: the bytes that it asks for before and after the click on Start, the time from the click to the first step of
the attack, and that of a step of the simple gradient on SqueezeNet at 227 pixels, with one thread of WebAssembly, as
the page itself shows it. These times are of the clock: run this alone on the machine, or read the best alone. Beside
them stands the CPU time of the page's process, which other work on the machine makes little longer. It includes the
measures of each iterate and the pictures.
"""

import functools
import http.server
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np
import onnxruntime

from fragile_utils import laboratory

REPEATS = 5
STEPS = 12  # in the browser
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
PATIENCE = 600_000  # milliseconds for a step on a busy machine


def step_ms(path: Path) -> float:
    """Return the median CPU time of a step, in milliseconds, after one to warm up."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    feeds = {}
    for given in session.get_inputs():
        if given.name == "label":
            feeds[given.name] = np.zeros(1, np.int64)
        else:
            feeds[given.name] = np.asarray(rng.random(given.shape), np.float32)
    times = []
    for _ in range(REPEATS + 1):
        start = time.process_time()
        session.run(None, feeds)
        times.append(time.process_time() - start)
    return 1000 * sorted(times[1:])[REPEATS // 2]


def native(folder: Path, manifest: dict) -> None:
    """Print a table with one row for each method."""
    print(f"{'network':<12} {'method':<22} {'size':>5} {'graphs (kB)':>12} {'weights (kB)':>13} {'step (ms)':>10}")
    for network in manifest["networks"]:
        for method in network["methods"]:
            graphs = sum(graph["bytes"] for graph in method["graphs"].values()) / 1000
            ms = step_ms(folder / "models" / method["graphs"]["topk"]["file"])
            row = f"{network['name']:<12} {method['name']:<22} {method['size']:5} {graphs:12.0f}"
            print(f"{row} {network['weights']['bytes'] / 1000:13.0f} {ms:10.0f}", flush=True)


# --- In a browser ----------------------------------------------------------------------------------------------------


class _Counted(http.server.SimpleHTTPRequestHandler):
    """Serves files, and adds up the bytes of their contents."""

    sent = 0

    def send_header(self, keyword: str, value: str) -> None:
        if keyword == "Content-Length":
            _Counted.sent += int(value)
        super().send_header(keyword, value)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    handler = functools.partial(_Counted, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def in_browser(folder: Path) -> None:
    """Print bytes and times of the page: its first network, method and photograph."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        chromium = None
    if not chromium:
        print("the page itself is not measured: playwright and chromium are needed")
        return
    with _served(folder) as site, sync_playwright() as session:
        browser = session.chromium.launch(executable_path=chromium, args=FLAGS)
        tab = browser.new_page()
        tab.set_default_timeout(PATIENCE)
        tab.goto(site, wait_until="networkidle")
        before = _Counted.sent
        start, cpu_start = time.perf_counter(), _cpu_s(browser)
        tab.locator("#start").click()
        tab.locator("#play").wait_for()
        explained = time.perf_counter() - start
        _step(tab, 1)
        first, cpu_first = time.perf_counter() - start, _cpu_s(browser)
        steps, cpu = [], [cpu_first]
        for number in range(2, STEPS + 1):
            steps.append(_step(tab, number))
            cpu.append(_cpu_s(browser))
        each = sorted(1000 * (after - before) for before, after in pairwise(cpu))
        print(f"bytes before the click {before:,}, after it {_Counted.sent - before:,}")
        print(f"from the click to the explanation {explained:.1f} s, to the first step {first:.1f} s")
        print(f"a step: best {min(steps)} ms, median {median(steps):.0f} ms of {len(steps)}, with one thread")
        print(f"CPU time from the click to the first step: {cpu_first - cpu_start:.1f} s")
        print(f"CPU time of a step: least {each[0]:.0f} ms, median {median(each):.0f} ms")
        browser.close()


def _cpu_s(browser: object) -> float:
    """Return the CPU time in seconds that the processes of all pages have used; no more than one page is open."""
    session = browser.new_browser_cdp_session()
    processes = session.send("SystemInfo.getProcessInfo")["processInfo"]
    session.detach()
    return sum(process["cpuTime"] for process in processes if process["type"] == "renderer")


def _step(tab: object, number: int) -> int:
    """Take a step, and return the milliseconds that the page says it took."""
    tab.locator("#one-step").click()
    tab.locator("#status").filter(has_text=re.compile(f"^After {number} steps? ")).wait_for()
    return int(re.search(r"(\d+) ms", tab.locator("#counter").inner_text())[1])


def main() -> None:
    """Write the book's laboratory, and measure it."""
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "laboratory"
        manifest = laboratory.write(folder, laboratory.of_the_book())
        native(folder, manifest)
        in_browser(folder)


if __name__ == "__main__":
    main()
