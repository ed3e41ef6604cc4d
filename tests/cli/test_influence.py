"""`fragile influence` as a user meets it: output, exit status, files."""

import numpy as np
import pytest
from command_line import assert_refused, records
from PIL import Image

from fragile_utils import influence
from fragile_utils.cli import parser
from fragile_utils.influence import tasks

KEYS = {"image", "class", "label", "label_after", "linf", "success", "rank_correlation", "top_overlap", "confidence"}


@pytest.fixture(autouse=True)
def train_once(digit_network, monkeypatch):
    monkeypatch.setattr(tasks, "digit_network", lambda *_: digit_network)


def test_the_defaults_are_the_papers():
    options = vars(parser().parse_args(["influence"]))
    paper = {"attack": "gradient-sign", "top": 3, "overlap": 5, "eps": 8, "damping": 0, "side": "helpful"}
    assert options | paper | {"data": "digits", "images": 4, "seed": 0, "backbone": "squeezenet"} == options


def test_it_prints_one_json_object_a_line_and_a_summary(fragile):
    status, out, err = fragile("influence", "--eps", 16, "--images", 5, "--batch-size", 2, "--json")
    images, summary = records(out)
    assert (status, err, len(images)) == (0, "", 5)
    for row in images:
        assert set(row) >= KEYS
        assert row["label_after"] == row["label"]
        assert row["linf"] <= 16
    assert (summary["summary"], summary["images"], summary["failures"]) == (True, 5, 0)
    for name in ("rank_correlation", "top_overlap"):
        assert summary[name] == pytest.approx(np.mean([row[name] for row in images]))
    assert summary["accuracy"] > 0.9
    assert (summary["settings"]["eps"], summary["settings"]["train"]) == (16, 700)
    assert summary["settings"]["backbone"] is None


def test_it_is_the_attack_of_the_package(fragile):
    options = ("--attack", "iterated", "--scale-free", "--top", 2, "--eps", 16, "--steps", 3, "--step-size", 8)
    images, _ = records(fragile("influence", *options, "--images", 3, "--train", 300, "--l2", 0.05, "--json")[1])
    trained = tasks.digits(train=300).learn(l2=0.05)
    attack = influence.Iterated(top=2, scale_free=True)
    batch = trained.test[:3]
    few = {"eps": 16 / 255, "steps": 3, "step_size": 8 / 255}
    result = influence.run(attack, trained.task.features, trained.explain, batch.images, batch.labels, **few).compare()
    for row, (_, expected) in zip(images, result.iterrows(), strict=True):
        assert row["rank_correlation"] == pytest.approx(expected.rank_correlation, abs=0.02)


def test_conjugate_gradients_change_nothing(fragile):
    run = ("influence", "--images", 3, "--damping", 0.01, "--json", "--solver")
    exact, iterative = (records(fragile(*run, solver)[1]) for solver in ("exact", "cg"))
    assert exact[1]["rank_correlation"] == pytest.approx(iterative[1]["rank_correlation"], abs=1e-3)


def test_a_table_for_people_and_a_picture_of_each_image(fragile, tmp_path):
    out = tmp_path / "new" / "pictures"
    status, text, _ = fragile("influence", "--images", 2, "--top", 2, "--out", out)
    assert status == 0
    assert "the digits 4 and 9" in text
    assert "mean over 2 of 2 images: rank_correlation" in text
    pictures = sorted(out.iterdir())
    assert [path.name[:3] for path in pictures] == ["000", "001"]
    for path in pictures:
        with Image.open(path) as picture:
            assert min(picture.size) > 400


def test_flowers_are_taken_from_the_readers_folder(fragile, garden):
    status, out, _ = fragile("influence", "--data", "flowers", "--train", 9, "--images", 1, "--json")
    images, summary = records(out)
    assert (status, len(images)) == (0, 1)
    assert summary["settings"]["backbone"] == "squeezenet"
    assert "roses and sunflowers" in summary["note"]


BAD = {
    "eps 0": (["--eps", 0], "--eps: expected a number above 0, got 0.0"),
    "step size 0": (["--step-size", 0], "--step-size: expected a number above 0"),
    "no images": (["--images", 0], "--images: expected a whole number from 1 to 100000000, got 0"),
    "no training images": (["--train", 0], "--train: expected a whole number at least 1, got 0"),
    "all training images": (["--train", 1000], "train: expected a whole number from 1 to 999, got 1000"),
    "top": (["--top", 0], "--top: expected a whole number at least 1"),
    "more than there are": (["--train", 50, "--overlap", 51], "--top, --overlap: expected a whole number from 1 to 50"),
    "negative l2": (["--l2", -1], "--l2: expected a number, 0 or above, got -1.0"),
    "separable without l2": (["--train", 30, "--l2", 0], "the classes are separable"),
    "negative damping": (["--damping", -1], "--damping: expected a number, 0 or above"),
    "no flowers": (["--data", "flowers"], "no flower photos in"),
    "steps of one": (["--steps", 3], "--steps: this does not apply where --attack gradient-sign is given; leave it"),
    "a size of one": (["--step-size", 2], "--step-size: this does not apply where --attack gradient-sign is given"),
    "steps of noise": (["--attack", "random-sign", "--steps", 3], "--steps: this does not apply where --attack random"),
    "a scale of noise": (["--attack", "random-sign", "--scale-free"], "--scale-free: this does not apply where --at"),
    "features of digits": (["--backbone", "inception"], "--backbone: this does not apply where --data digits is given"),
    "digits from afar": (["--download"], "--download: this does not apply where --data digits is given"),
    "out is a file": (["--out", "a file"], "--out: expected a folder, got the file"),
    "no such device": (["--device", "abacus"], "--device: 'abacus' is not available here"),
}


@pytest.mark.parametrize("case", BAD)
def test_wrong_input_is_one_clear_line_and_exit_status_2(case, fragile, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FRAGILE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "a file").write_text("")
    arguments, message = BAD[case]
    assert_refused(fragile("influence", "--images", 1, "--out", "pictures", *arguments), message)
    assert not (tmp_path / "pictures").exists()


def test_wrong_usage_ends_with_status_2(fragile, capsys):
    for arguments in (["--backbone", "vgg"], ["--attack", "topk"], ["--side", "both"], ["--eps", "small"]):
        with pytest.raises(SystemExit) as stop:
            fragile("influence", *arguments)
        assert stop.value.code == 2
