"""`fragile train` as a user meets it: output, exit status, files."""

import errno
import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from command_line import assert_refused
from PIL import Image

from fragile_utils import data, models
from fragile_utils.cli import main
from fragile_utils.models.training import Training


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A data folder with two training images and one test image of each class."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 2), ("test", 1)):
        for name in data.CIFAR10_CLASSES:
            folder = tmp_path / "data" / "cifar10" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                Image.fromarray(generator.integers(256, size=(32, 32, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    monkeypatch.setenv("FRAGILE_DATA", str(tmp_path / "data"))
    return tmp_path


FILES = ["log.csv", "training.json", "weights.safetensors"]
SHORT = ("train", "cifar10", "--width", "4", "--epochs", "2", "--batch-size", "10", "--precision", "float32")


def test_the_command_writes_weights_settings_and_curve(root, capsys):
    out = root / "new" / "net"
    assert main([*SHORT, "--weight-decay", "0.01", "--out", str(out), "--json"]) == 0
    *epochs, summary = map(json.loads, capsys.readouterr().out.splitlines())
    assert [row["epoch"] for row in epochs] == [1, 2]
    assert sorted(path.name for path in out.iterdir()) == FILES
    about = json.loads((out / "training.json").read_text())
    expected = Training(width=4, epochs=2, batch_size=10, precision="float32", weight_decay=0.01)
    assert Training(**about["settings"]) == expected
    assert (about["train_images"], about["test_images"]) == (20, 10)
    assert summary["test_accuracy"] == about["test_accuracy"] == epochs[-1]["test_accuracy"]
    model = models.cifar10_net(out / "weights.safetensors")
    assert hashlib.sha256((out / "weights.safetensors").read_bytes()).hexdigest() == about["sha256"]
    test = data.cifar10_folder("test")
    assert (data.predict(model, test.images) == test.labels).double().mean() == about["test_accuracy"]

    weights = (out / "weights.safetensors").stat().st_mtime_ns
    assert main([*SHORT, "--weight-decay", "0.01", "--out", str(out)]) == 0  # it is there already
    assert "test images right" in capsys.readouterr().out
    assert (out / "weights.safetensors").stat().st_mtime_ns == weights
    for other in (["--weight-decay", "0.02"], ["--weight-decay", "0.01", "--limit", "5"]):
        assert main([*SHORT, *other, "--out", str(out)]) == 2
        assert "is of a training with other settings" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["weights.safetensors", "log.csv", "training.json"])
def test_a_training_whose_files_cannot_be_written_is_finished_later(name, root, capsys, monkeypatch):
    assert main([*SHORT, "--out", str(root / "whole")]) == 0
    write = Path.replace

    def full(path, target):
        if target.name == name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        assert main([*SHORT, "--out", str(root / "net")]) == 2
    said = capsys.readouterr()
    assert f"cannot write {root}/net/{name}: No space left on device" in said.err
    assert main([*SHORT, "--out", str(root / "net"), "--json"]) == 0
    (summary,) = map(json.loads, capsys.readouterr().out.splitlines())  # no epoch is learnt again
    assert summary["test_accuracy"] == json.loads((root / "whole" / "training.json").read_text())["test_accuracy"]
    assert sorted(path.name for path in (root / "net").iterdir()) == FILES
    weights = [(root / folder / "weights.safetensors").read_bytes() for folder in ("net", "whole")]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("damage", ["no weights", "no log", "one byte"])
def test_a_finished_training_without_what_it_wrote_is_refused(damage, fragile, root):
    out = root / "net"
    weights, log = out / "weights.safetensors", out / "log.csv"
    assert fragile(*SHORT, "--out", out)[0] == 0
    content = weights.read_bytes()
    if damage == "one byte":
        weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        message = f"--out: expected {weights} with the SHA-256 in training.json, got another"
    else:
        gone = weights if damage == "no weights" else log
        gone.unlink()
        message = f"--out: expected the file {gone} of a finished training, got none"
    left = {path: path.read_bytes() for path in out.iterdir()}
    assert_refused(fragile(*SHORT, "--out", out), f"{message}; remove training.json from that folder to train again")
    assert {path: path.read_bytes() for path in out.iterdir()} == left
    (out / "training.json").unlink()
    assert fragile(*SHORT, "--out", out)[0] == 0
    assert weights.read_bytes() == content


def test_a_checkpoint_beside_a_finished_training_is_removed(fragile, root):
    """As of a process that was killed when all was written."""
    assert fragile(*SHORT, "--out", root / "net")[0] == 0
    (root / "net" / "checkpoint.pt").touch()
    assert fragile(*SHORT, "--out", root / "net")[0] == 0
    assert sorted(path.name for path in (root / "net").iterdir()) == FILES


def test_options_of_zero_are_recorded_and_another_file_is_no_finished_training(root, capsys, monkeypatch):
    monkeypatch.setattr(os, "linesep", "\r\n")  # as on Windows
    out = root / "net"
    assert main([*SHORT, "--weight-decay", "0", "--seed", "0", "--epochs", "1", "--out", str(out)]) == 0
    command = json.loads((out / "training.json").read_text())["command"]
    assert "--weight-decay 0.0" in command
    assert "--seed 0" in command
    assert b"\r" not in (out / "log.csv").read_bytes()
    for text in ("{", "{}", "[]"):
        (out / "training.json").write_text(text)
        assert main([*SHORT, "--out", str(out)]) == 2
        assert "training.json is not what `fragile train` writes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--epochs", "0"), "epochs: expected a whole number from 1 to 100000, got 0"),
        (("--root", "nowhere"), "no such folder: nowhere"),
        (("--out", "{root}/data/cifar10/test/cat/0.png"), "--out: expected a folder, got the file"),
        (("--device", "abacus"), "--device: 'abacus' is not available here"),
    ],
)
def test_the_command_refuses_bad_options(root, capsys, options, message):
    options = [option.format(root=root) for option in options]
    assert main([*SHORT, "--out", str(root / "out"), *options]) == 2
    assert message in capsys.readouterr().err
    assert not (root / "out").exists()


def test_a_defence_is_trained_recorded_and_gone_on_with(root, capsys):
    out = root / "net"
    command = [*SHORT, "--defence", "input-gradient", "--out", str(out)]
    assert main([*command, "--json"]) == 0
    *epochs, _ = map(json.loads, capsys.readouterr().out.splitlines())
    assert all(row["train_penalty"] > 0 for row in epochs)
    about = json.loads((out / "training.json").read_text())
    assert about["loss"] == "GradientPenalty(weight=0.01, share=0.5)"
    assert "--defence input-gradient" in about["command"]
    assert main(command) == 0  # it is there already
    capsys.readouterr()
    assert main([*SHORT, "--out", str(out)]) == 2
    assert "is of a training with other settings" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*SHORT, "--defence", "prayer", "--out", str(out)])
    assert "invalid choice: 'prayer'" in capsys.readouterr().err
