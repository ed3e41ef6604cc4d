"""The command itself: as a module, and called wrongly."""

import subprocess
import sys

import pytest

from fragile_utils.cli import main


@pytest.mark.parametrize("arguments", [[], ["attack", "--eps", "small"], ["attack", "--method", "tea-leaves"]], ids=str)
def test_wrong_usage_ends_with_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "fragile" in capsys.readouterr().err


def test_it_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "fragile_utils", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "fragile 0.1.0\n"
