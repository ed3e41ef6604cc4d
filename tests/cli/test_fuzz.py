"""The command line as anybody may type it: one line and status 2, or what was asked for; and nothing is executed."""

import contextlib
import io
import json
import shutil
import sys
import types

import nasty
import numpy as np
import pytest
import sweeps
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

from fragile_utils import attacks, data, experiments, influence, models
from fragile_utils.cli import fetch, main
from fragile_utils.models import training
from fragile_utils.plots import sweeps as figures

few = settings(max_examples=250, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
many = settings(few, max_examples=2000)
HEAVY = "stopped before heavy computing"


def heavy(*_, **__):
    raise ValueError(HEAVY)


@pytest.fixture(scope="module")
def place(tmp_path_factory, folder):
    """A working folder of all kinds of files, where a command stops before it computes for long."""
    place = tmp_path_factory.mktemp("place")
    (place / "planted.py").write_text(nasty.MODULE.format(trace=str(place / "trace")))
    (place / "empty").mkdir()
    (place / "text.png").write_text("no image")
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(place / "image.png")
    Image.fromarray(np.full((8, 8), -1, np.float32)).save(place / "negative.tiff")
    small = sweeps.SMALL | {"models": "cifar10", "data": "image.png"}
    (place / "sweep.json").write_text(json.dumps(small))
    (place / "code.json").write_text(json.dumps(small | {"models": "planted:function"}))
    shutil.copytree(folder, place / "finished")
    network, samples = models.cifar10_net(), data.cifar10_samples()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(place)
        patch.chdir(place)
        patch.delenv("FRAGILE_DATA", raising=False)
        patch.setenv("FRAGILE_CACHE", str(place / "cache"))
        for name in models.MODELS:
            patch.setitem(models.MODELS, name, lambda: network)
        for name in data.SAMPLES:
            patch.setitem(data.SAMPLES, name, lambda **_: samples)
        for name in fetch.THINGS:
            patch.setitem(fetch.THINGS, name, (name, heavy))
        for room, name in ((attacks, "run"), (influence, "digits"), (influence, "flowers"), (training, "train")):
            patch.setattr(room, name, heavy)
        patch.setattr(experiments.Subject, "choose", heavy)
        patch.setattr(figures, "figure", lambda *_: Figure((1, 1)))
        yield place


# --- Command lines ---------------------------------------------------------------------------------------------------

TEXTS = [text for text in nasty.NAMES if "\0" not in text and "\ud800" not in text]  # no system passes on the others
PATHS = [".", "none", "empty", "text.png", "image.png", "negative.tiff", "sweep.json", "code.json", "finished", "out"]
PATH = st.sampled_from([*PATHS, "finished/shards", "sweep.json/x", *TEXTS])
NUMBER = st.sampled_from(
    [*map(str, nasty.NUMBERS), "9" * 22, "9" * 5000, "nan", "inf", "1e999", "-inf", "", "four", "0x1", "2"]
)
WORD = st.sampled_from([*TEXTS, "auto", "cpu", "meta", "cuda:99", "abacus", "local:0", "local:99999999999", "tcp://"])
KINDS = {int: NUMBER, "path": PATH, "word": WORD, None: None}
COMMON = {
    **dict.fromkeys(("--steps", "--eps", "--images", "--seed", "--batch-size", "--step-size"), int),
    **{"--device": "word", "--json": None, "--out": "path"},
}
OPTIONS = {
    ("attack", "--model", "cifar10"): COMMON
    | {"--data": "path", "--region": "word", "--label": int, "--k": int, "--patience": int, "--random-start": None}
    | {
        "--attack": ("topk", "targeted", "random-sign", "x"),
        "--method": ("gradient", "lrp-zplus", "lrp:x=3"),
    },
    ("influence",): COMMON
    | dict.fromkeys(("--train", "--l2", "--damping", "--top", "--overlap"), int)
    | {"--data": ("digits", "flowers", "image.png"), "--scale-free": None},
    ("train", "cifar10"): {
        **dict.fromkeys(("--width", "--hidden", "--epochs", "--batch-size", "--limit", "--seed", "--shift"), int),
        **dict.fromkeys(("--learning-rate", "--beta", "--weight-decay", "--label-smoothing"), int),
        **{"--root": "path", "--device": "word", "--activation": "word", "--optimiser": "word", "--json": None},
    },
    ("sweep",): {
        **{"--out": "path", "--status": "path", "--device": "word", "--scheduler": "word", "--json": None},
        **dict.fromkeys(("--shard-size", "--batch-size", "--max-cells"), int),
    },
    ("report",): {"--out": "path", "--collect": "path", "--max-cells": int, "--json": None},
    ("fetch",): {},
}
ARGUMENTS = {  # what each command has besides options
    "sweep": st.lists(PATH | st.just("sweep.json"), max_size=1),
    "report": st.lists(PATH | st.just("finished"), min_size=1, max_size=1),
    "fetch": st.lists(st.sampled_from([*fetch.THINGS, "x"]), min_size=1, max_size=2),
    "train": PATH.map(lambda path: ["--out", path]),
}


@st.composite
def command_lines(draw):
    """A command with some of its options, each with a value that may be right."""
    command = draw(st.sampled_from([*OPTIONS]))
    line = [*command, *draw(ARGUMENTS.get(command[0], st.just([])))]
    options = OPTIONS[command]
    for name in draw(st.lists(st.sampled_from([*options]), max_size=4, unique=True)) if options else ():
        kind = options[name]
        line.append(name)
        if kind is not None:
            line.append(draw(st.sampled_from(kind) if isinstance(kind, tuple) else KINDS[kind]))
    return line


def call(line):
    """Call a command as a process would; its exit status and what it said."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(line)
        except SystemExit as stop:  # wrong usage
            status = types.SimpleNamespace(usage=stop.code)
    return status, out.getvalue(), err.getvalue()


def whole_files(place):
    return {path: path.stat().st_size for path in place.rglob("*") if path.is_file()}


def check(place, line):
    before = whole_files(place)
    status, _, err = call(line)
    after = whole_files(place)
    if isinstance(status, types.SimpleNamespace):
        assert status.usage == 2
        assert "error: " in err.splitlines()[-1]
    else:
        assert status in (0, 2), err
    if status == 2:
        assert err.splitlines()[-1].startswith("fragile: error: ")
        assert len(err.splitlines()[-1]) < 1100
        assert after == before
    assert "Traceback" not in err
    assert [path for path in after if path.suffix == ".part"] == []
    assert not (place / "trace").exists()
    assert "planted" not in sys.modules
    for path in after.keys() - before.keys():
        path.unlink()


@few
@given(line=command_lines())
def test_a_command_line_is_followed_or_refused(place, line):
    check(place, line)


@pytest.mark.slow
@many
@given(line=command_lines())
def test_2000_command_lines_are_followed_or_refused(place, line):
    check(place, line)


RIGHT = [
    (["attack", "--model", "cifar10", "--data", "image.png"], HEAVY),
    (["influence"], HEAVY),
    (["fetch", "cifar10"], HEAVY),
    (["sweep", "sweep.json", "--out", "out"], HEAVY),
    (["sweep", "--status", "finished"], ""),
    (["report", "finished"], ""),
]


@pytest.mark.parametrize(("line", "said"), RIGHT, ids=lambda part: " ".join(part) if isinstance(part, list) else "")
def test_what_is_right_gets_as_far_as_the_computing(place, line, said):
    status, _, err = call(line)
    assert status == (2 if said else 0)
    assert said in err
