"""Firefox for the tests: a tab of the browser that is installed, spoken to by its own protocol, Marionette."""

import json
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager

import pytest

PREFERENCES = {
    "marionette.port": 0,  # any that is free; it is written into the profile
    "app.update.auto": False,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "network.captive-portal-service.enabled": False,
    "toolkit.telemetry.reportingpolicy.firstRun": False,
}
PATIENCE = 600  # seconds

# In the page itself: what Marionette runs is kept apart from it, and cannot import its modules.
CALL = """const [call, done] = arguments;
window.eval(call).then(JSON.stringify).then((value) => done({ value }), (error) => done({ error: String(error) }))"""
STATUS = "return document.getElementById('status').textContent"


class Tab:
    """A tab, with as much of playwright's interface as the golden tests need."""

    def __init__(self, connection, answers):
        self._connection, self._answers, self._number = connection, answers, 0
        self._message()  # a greeting
        self._ask("WebDriver:NewSession", {"strictFileInteractability": False})
        self._ask("WebDriver:SetTimeouts", {"script": 1000 * PATIENCE, "pageLoad": 1000 * PATIENCE})

    def goto(self, address):
        self._ask("WebDriver:Navigate", {"url": address})

    def evaluate(self, function, given=None):
        """What a function of JavaScript returns for an argument."""
        call = f"(async () => ({function}))().then((call) => call({json.dumps(given)}))"
        answer = self._ask("WebDriver:ExecuteAsyncScript", {"script": CALL, "args": [call]})["value"]
        assert "error" not in answer, answer["error"]
        return json.loads(answer["value"])

    def read(self, script):
        """What a script returns that sees the page from outside, also where the page allows no evaluation within it."""
        return self._ask("WebDriver:ExecuteScript", {"script": script, "args": []})["value"]

    def wait(self, condition):
        """Wait until a condition holds, and return the page's status."""
        end = time.monotonic() + PATIENCE
        while not self.read(f"return Boolean({condition})"):
            if time.monotonic() > end:
                pytest.fail(f"{condition} never held; the page says: {self.read(STATUS)}")
            time.sleep(0.1)
        return self.read(STATUS)

    def click(self, button):
        self.read(f"document.getElementById('{button}').click()")

    def _ask(self, command, parameters):
        self._number += 1
        content = json.dumps([0, self._number, command, parameters]).encode()
        self._connection.sendall(b"%d:%s" % (len(content), content))
        _, number, error, result = self._message()
        assert (number, error) == (self._number, None)
        return result

    def _message(self):
        length = b""
        while not length.endswith(b":"):
            length += self._answers.read(1) or pytest.fail("Firefox has gone")
        return json.loads(self._answers.read(int(length[:-1])))


@contextmanager
def tab(profile):
    """A tab of a Firefox without a window; the test is skipped where there is none. The folder is for its profile."""
    found = shutil.which("firefox-esr") or shutil.which("firefox")
    if not found:
        pytest.skip("no Firefox to run the graphs in: install firefox-esr")
    lines = (f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in PREFERENCES.items())
    (profile / "user.js").write_text("".join(lines))
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([found, "--headless", "--marionette", "--no-remote", "--profile", profile], **quiet)
    try:
        address = ("127.0.0.1", _port(profile, process))
        with socket.create_connection(address, timeout=PATIENCE) as connection, connection.makefile("rb") as answers:
            yield Tab(connection, answers)
    finally:
        process.terminate()
        process.wait(timeout=60)


def _port(profile, process):
    end = time.monotonic() + PATIENCE / 4
    while time.monotonic() < end and process.poll() is None:
        written = profile / "MarionetteActivePort"
        if written.is_file() and written.read_text().strip():
            return int(written.read_text())
        time.sleep(0.2)
    pytest.fail("Firefox did not start")
