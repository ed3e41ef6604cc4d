"""The command itself: as a module, and called wrongly."""

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import assert_refused

from fragile_utils import data
from fragile_utils.cli import main


@pytest.mark.parametrize("arguments", [[], ["attack", "--eps", "small"]], ids=str)
def test_wrong_usage_ends_with_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "fragile" in capsys.readouterr().err


UNKNOWN = {
    "an image": (["attack", "cat.png"], "unrecognized arguments: cat.png; images are given by --data cat.png"),
    "of other commands": (["influence", "cat.png"], "unrecognized arguments: cat.png"),
    "an option": (["audit", "--cat", "cat.png"], "unrecognized arguments: --cat cat.png"),
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_what_is_no_option_is_named_and_so_is_that_of_images(case, capsys):
    arguments, said = UNKNOWN[case]
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"fragile: error: {said}"


def test_a_method_that_there_is_not_is_refused(capsys):
    assert main(["attack", "--method", "tea-leaves"]) == 2
    assert "tea-leaves" in capsys.readouterr().err


def test_it_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "fragile_utils", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "fragile 0.1.0\n"


ERRORS = {
    "a file": (PermissionError(errno.EACCES, "Permission denied", "a/b"), 2, "Permission denied: a/b"),
    "a pipe": (OSError("no more"), 2, "no more"),
    "a long name": (OSError(errno.ENAMETOOLONG, "File name too long", "x" * 5000), 2, "File name too long: xxx"),
    "memory": (MemoryError(), 2, "out of memory; fewer or smaller images at a time need less (MemoryError)"),
    "memory of PyTorch": (
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"),
        2,
        "out of memory; fewer or smaller images at a time need less ([enforce fail",
    ),
    "depth": (RecursionError("maximum recursion depth exceeded"), 2, "something is nested too deep (maximum"),
    "a large number": (OverflowError("int too large"), 2, "a number is too large (int too large)"),
    "PyTorch": (
        RuntimeError("mat1 and mat2\n shapes"),
        2,
        "PyTorch cannot compute this: mat1 and mat2 shapes; fragile --traceback COMMAND ... shows where",
    ),
    "a device": (NotImplementedError("no kernel"), 2, "PyTorch cannot compute this: no kernel;"),
    "a letter": ("\ud800".encode, 2, "'\\ud800' cannot be written in utf-8"),
    "wrong input": (ValueError("expected this,\n got that"), 2, "expected this, got that"),
    "a mistake": (
        TypeError("unsupported operand"),
        1,
        "TypeError: unsupported operand; a mistake of this package: fragile --traceback COMMAND ... shows where",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_every_error_is_one_line_and_a_traceback_when_asked_for(case, fragile, monkeypatch):
    error, expected, message = ERRORS[case]

    def fail(*_, **__):
        if not isinstance(error, Exception):
            error()
        raise error

    monkeypatch.setattr(data, "load", fail)
    status, out, err = fragile("attack")
    assert (status, out) == (expected, "")
    assert err.startswith(f"fragile: error: {message}")
    assert err.count("\n") == 1
    assert len(err) < 1100
    with pytest.raises(Exception, match=r".*") as raised:
        main(["--traceback", "attack"])
    assert isinstance(raised.value, UnicodeEncodeError if case == "a letter" else type(error))


EMPTY = [
    ("--out", "attack", "--out", ""),
    ("--data", "attack", "--data", ""),
    ("--region", "attack", "--region", ""),
    ("--device", "attack", "--device", ""),
    ("--out", "influence", "--out", ""),
    ("--out", "train", "cifar10", "--out", ""),
    ("--root", "train", "cifar10", "--out", "new", "--root", ""),
    ("CONFIG", "sweep", "", "--out", "new"),
    ("--out", "sweep", "sweep.json", "--out", ""),
    ("--status", "sweep", "--status", ""),
    ("FOLDER", "report", ""),
    ("--out", "report", "folder", "--out", ""),
    ("--collect", "report", "folder", "--collect", ""),
]


@pytest.mark.parametrize("arguments", EMPTY, ids=" ".join)
def test_an_option_without_a_value_is_refused(arguments, fragile, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name, *arguments = arguments
    assert_refused(fragile(*arguments), f"fragile: error: {name}: expected a value, got ''\n")
    assert list(tmp_path.iterdir()) == []


LARGE = {
    "22 digits": (
        ["--steps", "9" * 22],
        "--steps: expected a whole number from 1 to 1000000, got 9999999999999999999999",
    ),
    "5,000 digits": (
        ["--steps", "9" * 5000],
        "--steps: expected a whole number from 1 to 1000000, got one of more than 30 ",
    ),
    "a seed": (["--seed", 10**23], f"--seed: expected a whole number from 0 to {2**53}, got {10**23}"),
    "a negative seed": (["--seed", -1], "--seed: expected a whole number, 0 or above, got -1"),
    "images": (["--images", 10**25], "--images: expected a whole number from 1 to 100000000, got 1"),
    "batches": (["--batch-size", 10**25], "--batch-size: expected a whole number from 1 to 1000000, got 1"),
    "an infinite budget": (["--eps", "inf"], "--eps: expected a number above 0, got inf"),
    "a device without values": (["--device", "meta"], "--device: 'meta' is not available here: "),
}


@pytest.mark.parametrize("command", ["attack", "influence"])
@pytest.mark.parametrize("case", LARGE)
def test_numbers_out_of_range_are_refused(case, command, fragile):
    arguments, message = LARGE[case]
    assert_refused(fragile(command, *arguments), message)


@pytest.mark.parametrize("text", ["1.5", "four", "", "0x10", "\u0663", "1_000"])
def test_what_is_no_whole_number_is_wrong_usage(text, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["attack", "--steps", text])
    assert stop.value.code == 2
    assert f"argument --steps: expected a whole number, got {text!r}" in capsys.readouterr().err


PATHS = {
    "a home of nobody": (
        ["attack", "--data", "~nobody-of-this-name/x"],
        "there is no home folder for '~nobody-of-this",
    ),
    "long data": (["attack", "--data", "x" * 5000], "File name too long"),
    "long output": (["attack", "--out", "x" * 5000], "File name too long: xxx"),
    "a long configuration": (["sweep", "x" * 5000, "--out", "out"], "File name too long"),
    "a long folder": (["report", "x" * 5000], "File name too long"),
    "a long status": (["sweep", "--status", "x" * 5000], "File name too long"),
    "long weights": (["train", "cifar10", "--out", "x" * 5000], "File name too long"),
}


@pytest.mark.parametrize("case", PATHS)
def test_paths_that_lead_nowhere_are_refused(case, fragile, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments, message = PATHS[case]
    outcome = fragile(*arguments)
    assert_refused(outcome, message)
    assert len(outcome[2]) < 1100
    assert list(tmp_path.iterdir()) == []


UNWRITABLE = {
    "pictures": [
        "attack",
        "--model",
        "cifar10",
        "--data",
        "cifar10-samples",
        "--attack",
        "random-sign",
        "--out",
        "out",
    ],
    "a report": ["report", "{folder}", "--out", "out"],
    "collected results": ["report", "{folder}", "--collect", "out/rows"],
}


@pytest.mark.parametrize("case", UNWRITABLE)
def test_a_place_that_cannot_be_written_to_is_one_clear_line(case, fragile, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def refuse(path, **_):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)  # root may write anywhere
    arguments = [argument.format(folder=folder) for argument in UNWRITABLE[case]]
    status, _, err = fragile(*arguments)
    assert status == 2
    assert re.fullmatch(r"fragile: error: cannot write (to )?out.*: Permission denied\n", err)
    assert list(tmp_path.iterdir()) == []


def test_data_that_may_not_be_read_is_one_clear_line(fragile, tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()

    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    outcome = fragile("attack", "--data", tmp_path / "photos")
    assert_refused(outcome, f"fragile: error: cannot read {tmp_path}/photos: Permission denied\n")
