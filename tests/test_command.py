"""What the command sets before PyTorch is loaded."""

import ctypes
import os
import platform
import subprocess
import sys

import pytest

from fragile_utils import __main__

LET_GO = """
import sys, torch
from fragile_utils.__main__ import keep_memory
kept = keep_memory() if sys.argv[1] == "keep" else False
held = lambda: int(open("/proc/self/statm").read().split()[1]) * 4096
before = held()
torch.ones(2**24)  # 64 MiB, of which nothing is left
print(kept, held() - before > 2**25)
"""


def told(*arguments, **variables):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")} | variables
    command = [sys.executable, "-c", LET_GO, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_the_command_keeps_the_memory_of_large_tensors():
    assert told("keep") == ["True", "True"]
    assert told("leave") == ["False", "False"]
    assert told("keep", MALLOC_TRIM_THRESHOLD_="1000000") == ["False", "False"]  # what the environment says stands


@pytest.mark.parametrize("error", [OSError, TypeError, AttributeError])
def test_other_systems_keep_memory_as_they_do(error, monkeypatch):
    def refuse(name):
        raise error

    monkeypatch.delenv("MALLOC_MMAP_THRESHOLD_", raising=False)
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)
    monkeypatch.setattr(ctypes, "CDLL", refuse)
    assert __main__.keep_memory() is False
