"""Networks, methods and attacks of one's own on the command line of ``fragile attack``."""

import numpy as np
import pytest
from command_line import assert_refused, records
from PIL import Image

from fragile_utils.cli import parser

NET = """
from networks import Tiny


def network():
    return Tiny().eval()


def softmax():
    import torch
    return torch.nn.Sequential(Tiny(), torch.nn.Softmax(1)).eval()
"""
SMALL = ("--steps", 2, "--step-size", 4, "--images", 2, "--k", 20, "--json")


SHARP = """
from networks import Tiny


class Sharp(Tiny):
    def forward(self, x):
        return super().forward(4 * x - 1.5)


def network():
    return Sharp(seed=4).eval()
"""


POOL = """
from torch import nn


def network():
    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 5)).eval()
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "names.txt").write_text("cat\ndog\n<b>\nfish\nfly\n")
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(0)
    for i in range(3):
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), np.uint8)).save(tmp_path / "images" / f"{i}.png")
    return tmp_path


@pytest.mark.parametrize(
    "command",
    [("attack", *SMALL), ("audit", "--plan"), ("laboratory", "--out", "report")],
    ids=["attack", "audit", "laboratory"],
)
def test_images_of_another_number_of_classes_are_refused_in_the_same_words(command, place, fragile):
    """The network has five classes, without names; the images have ten."""
    (place / "pool.py").write_text(POOL)
    own = ("--model", "pool.py:network", "--data", "cifar10-samples", "--size", 32, "--mean", "0,0,0", "--std", "1,1,1")
    assert_refused(fragile(*command, *own), "data: cifar10-samples has other classes than pool.py:network")


def test_batches_share_one_sharpness(place, fragile):
    (place / "sharp.py").write_text(SHARP)
    run = (
        "attack",
        "--model",
        "sharp.py:network",
        "--data",
        "images",
        "--size",
        16,
        *SMALL,
        "--images",
        3,
        "--steps",
        4,
    )
    rows = [records(fragile(*run, "--batch-size", size)[1])[0] for size in (1, 3)]
    assert len(rows[0]) == 3
    for one, three in zip(*rows, strict=True):
        assert one["rank_correlation"] == pytest.approx(three["rank_correlation"], abs=1e-3)


def test_a_network_of_ones_own_is_attacked(place, fragile):
    own = ("--mean", "0.5,0.5,0.5", "--std", "0.25,0.25,0.25", "--size", 16, "--classes", "names.txt")
    status, out, err = fragile("attack", "--model", "net.py:softmax", "--data", "images", *own, *SMALL)
    rows, summary = records(out)
    assert (status, err, len(rows)) == (0, "", 2)
    assert {row["class"] for row in rows} <= {"cat", "dog", "<b>", "fish", "fly"}
    assert summary["settings"]["adapted"] == ["the softmax at the end is left out: what it was given are the logits"]


def test_methods_and_attacks_take_options(place, fragile):
    options = ("--method", "integrated-gradients:steps=3,baseline=0.5", "--attack", "topk:k=7")
    status, out, _ = fragile("attack", "--model", "net.py:network", "--size", 16, "--data", "images", *options, *SMALL)
    _, summary = records(out)
    assert status == 0
    assert summary["settings"]["attack"] == "TopK(k=7)"
    assert summary["settings"]["method"].startswith("IntegratedGradients(steps=3, baseline=Baseline(0.5)")
    assert summary["k"] == 20


def test_a_targeted_attack_takes_its_region_as_an_option(place, fragile):
    options = ("--attack", "targeted:region=[2,2,6,6]")
    status, out, _ = fragile("attack", "--model", "net.py:network", "--size", 16, "--data", "images", *options, *SMALL)
    assert status == 0
    assert records(out)[1]["settings"]["attack"] == "Targeted(region of 16 pixels)"


BAD = {
    "an unknown network": (["--model", "squeezenest"], "--model: expected one of squeezenet"),
    "onnx": (["--model", "net.onnx"], "ONNX holds no network that can be differentiated twice"),
    "no file": (["--model", "none.py:net"], "no such file: none.py"),
    "two means": (["--mean", "1,2"], "--model: mean: expected 3 numbers, or 1"),
    "a negative std": (["--std", "1,-1,1"], "--model: std: expected numbers above 0"),
    "another size": (["--size", "64"], "images of 64 x 64 pixels"),
    "no names": (["--classes", "none.txt"], "no such file: none.txt"),
    "too few names": (["--classes", "few.txt"], "--model: classes: expected 5 names, got 1"),
    "an unknown method": (["--method", "tea-leaves"], "--method: expected one of gradient"),
    "an unknown option": (["--method", "gradient:steps=3"], "--method: gradient: unknown option 'steps'"),
    "a wrong option": (["--attack", "topk:k=0"], "k: expected a whole number at least 1, got 0"),
    "an option as text": (["--attack", "topk:k=many"], "--attack: topk: k: expected a whole number, got 'many'"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_one_line(case, place, fragile):
    arguments, message = BAD[case]
    (place / "few.txt").write_text("cat\n")
    base = {"--model": "net.py:network", "--size": 16, "--data": "images", "--out": "pictures"} | {
        arguments[0]: arguments[1]
    }
    assert_refused(fragile("attack", *(part for pair in base.items() for part in pair)), message)
    assert not (place / "pictures").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("topk:k=", "topk: k: expected a value"),
        ("topk:k=1,k=2", "expected each option once, got 'k' twice"),
        ("topk:=3", "expected OPTION=VALUE, got '=3'"),
        ("k=3", "expected NAME:OPTION=VALUE"),
    ],
)
def test_options_that_cannot_be_read_are_refused_by_the_parser(text, message, capsys):
    with pytest.raises(SystemExit):
        parser().parse_args(["attack", "--attack", text])
    assert message in capsys.readouterr().err
