"""`fragile laboratory` as a user meets it: output, exit status, files."""

import json

import pytest
from command_line import assert_refused


def test_a_laboratory_is_written(fragile, tmp_path):
    status, out, err = fragile("laboratory", "--model", "cifar10", "--out", tmp_path / "lab", "--images", "2")
    assert (status, err) == (0, "")
    assert out.startswith(f"{tmp_path / 'lab'}/: 3 graphs, 2 examples, ")
    assert f"python -m http.server --directory {tmp_path / 'lab'}" in out
    manifest = json.loads((tmp_path / "lab" / "models" / "manifest.json").read_text())
    assert [(n["name"], n["methods"][0]["name"]) for n in manifest["networks"]] == [("cifar10", "gradient")]
    assert (tmp_path / "lab" / "index.html").is_file()


def test_what_was_written_for_programs(fragile, tmp_path):
    method = ("--method", "integrated-gradients", "--points", "2")
    _, out, _ = fragile("laboratory", "--model", "cifar10", "--out", tmp_path / "lab", *method, "--json")
    record = json.loads(out)
    assert {*record} == {"folder", "graphs", "examples", "bytes_of_graphs", "bytes_of_weights"}
    assert (record["graphs"], record["examples"]) == (3, 12)
    manifest = json.loads((tmp_path / "lab" / "models" / "manifest.json").read_text())
    assert manifest["networks"][0]["methods"][0]["title"] == "integrated gradients, 2 points"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--pixels", "16"), "model: it cannot take images (3, 16, 16)"),
        (("--pixels", "0"), "--pixels"),
        (("--size", "16"), "is a Classifier, with its own size; leave them out"),
        (("--points", "-1"), "--points"),
        (("--images", "0"), "--images"),
        (("--data", "imagenet-samples"), "data: imagenet-samples has other classes than cifar10"),
        (("--data", "nowhere"), "no such file or folder: nowhere"),
        (("--method", "gradient", "gradient"), "methods: expected each once, got gradient-32 twice"),
    ],
)
def test_wrong_input_is_one_line_and_nothing_is_written(fragile, tmp_path, arguments, message):
    assert_refused(fragile("laboratory", "--model", "cifar10", "--out", tmp_path / "lab", *arguments), message)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_something_else_is_left_alone(fragile, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    assert_refused(fragile("laboratory", "--model", "cifar10", "--out", tmp_path), "expected a new or empty folder")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_network_of_ones_own_has_the_photographs_without_their_labels(fragile, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NET)
    own = ("--model", "net.py:network", "--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5", "--size", "32")
    status, _, err = fragile("laboratory", *own, "--out", tmp_path / "lab", "--images", "2")
    assert (status, err) == (0, "")
    manifest = json.loads((tmp_path / "lab" / "models" / "manifest.json").read_text())
    (network,) = manifest["networks"]
    assert (network["name"], network["title"]) == ("net-py-network", "net.py:network")
    assert len(network["classes"]) == 5
    assert len(manifest["examples"]) == 2


NET = """
import torch


def network():
    torch.manual_seed(0)
    layers = torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    return torch.nn.Sequential(*layers, torch.nn.Linear(4, 5)).eval()
"""
