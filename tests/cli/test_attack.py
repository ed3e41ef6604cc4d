"""`fragile attack` as a user meets it: output, exit status, files."""

import numpy as np
import pytest
from command_line import assert_refused, records
from PIL import Image

from fragile_utils import attacks, saliency
from fragile_utils.cli import parser
from fragile_utils.experiments import Choice

SMALL = ("--model", "cifar10", "--data", "cifar10-samples")
KEYS = {"image", "label", "label_after", "linf", "success", "topk_intersection", "rank_correlation", "center_shift"}


def test_the_defaults_are_the_papers():
    options = vars(parser().parse_args(["attack"]))
    paper = {"model": "squeezenet", "eps": 8, "step_size": 0.5, "steps": 300}
    paper |= {"method": Choice("gradient"), "attack": Choice("topk")}
    assert options | paper | {"data": "imagenet-samples", "images": 4, "seed": 0} == options


def test_attack_prints_one_json_object_a_line_and_a_summary(fragile):
    status, out, err = fragile(
        *("attack", *SMALL, "--attack", "random-sign", "--eps", 2, "--images", 3, "--batch-size", 2, "--json")
    )
    rows, summary = records(out)
    assert (status, err, len(rows)) == (0, "", 3)
    for row in rows:
        assert set(row) >= KEYS
        assert row["label_after"] == row["label"]
        assert row["success"]
        assert row["linf"] == pytest.approx(2, abs=1e-3)
        assert row["linf"] <= 2
    assert summary["summary"] is True
    assert (summary["images"], summary["successes"], summary["failures"]) == (3, 3, 0)
    for name in ("topk_intersection", "rank_correlation", "center_shift"):
        assert summary[name] == pytest.approx(np.mean([row[name] for row in rows]))
    assert summary["settings"]["eps"] == 2


def test_batches_do_not_change_the_result(fragile):
    run = ("attack", *SMALL, "--attack", "random-sign", "--eps", 1, "--images", 3, "--json", "--batch-size")
    rows = [records(fragile(*run, size)[1])[0] for size in (1, 3)]
    for one, three in zip(*rows, strict=True):
        assert one["topk_intersection"] == pytest.approx(three["topk_intersection"], abs=0.01)


def test_topk_writes_a_picture_of_each_image(fragile, tmp_path):
    out = tmp_path / "new" / "pictures"
    status, text, _ = fragile("attack", "--steps", 2, "--images", 2, "--out", out)
    assert status == 0
    assert sorted(path.name for path in out.iterdir()) == ["000_imagenet_00_243.png", "001_imagenet_01_559.png"]
    for path in out.iterdir():
        with Image.open(path) as picture:
            assert min(picture.size) > 400
    assert "squeezenet gets 12 of 20 right" in text
    assert "mean over" in text


@pytest.mark.parametrize("region", ["20,20,80,80", "slic:50,50"])
def test_a_targeted_attack_takes_a_region(fragile, region):
    options = ("--attack", "targeted", "--region", region, "--steps", 2, "--images", 1, "--json")
    status, out, _ = fragile("attack", *options)
    (row,), summary = records(out)
    assert (status, row["success"], summary["settings"]["region"]) == (0, True, region)
    assert "Targeted(region of" in summary["settings"]["attack"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--attack", "targeted"], "--region: expected TOP,LEFT,BOTTOM,RIGHT"),
        (["--attack", "targeted", "--region", "1,2,3"], "got '1,2,3'"),
        (["--attack", "targeted", "--region", "80,20,20,80"], "top and bottom: expected 0 <= first < second <= 32"),
        (["--attack", "targeted", "--region", "slic:500,2"], "at: expected a pixel"),
        (["--attack", "topk", "--region", "1,2,3,4"], "--region: expected with --attack targeted only"),
        (["--patience", "0"], "patience: expected a whole number"),
    ],
)
def test_a_wrong_region_is_refused(fragile, options, message):
    status, _, err = fragile("attack", *SMALL, "--images", 1, "--steps", 1, *options)
    assert status == 2
    assert message in err


def test_a_users_own_image_is_explained_as_predicted(fragile, tmp_path, samples):
    pixels = (samples.images[1] * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(tmp_path / "chairs.png")
    for source in (tmp_path / "chairs.png", tmp_path):
        _, out, _ = fragile("attack", "--data", source, "--attack", "random-sign", "--eps", 1, "--json")
        (row,), summary = records(out)
        assert (row["image"], row["label"], row["class"]) == ("chairs.png", 559, "folding chair")
        assert "without labels" in summary["note"]


def test_an_image_of_another_class_is_reported_and_left_out_of_the_means(fragile):
    _, out, _ = fragile("attack", "--label", 3, "--images", 1, "--steps", 1, "--json")
    (row,), summary = records(out)
    assert row["success"] is False
    assert row["reason"] == "predicted as class 243, not 3"
    assert row["linf"] == 0
    assert (summary["successes"], summary["failures"], summary["topk_intersection"]) == (0, 1, None)


BAD = {
    "eps 0": (["--eps", 0], "--eps: expected a number above 0, got 0.0"),
    "eps negative": (["--eps", -1], "--eps: expected a number above 0, got -1.0"),
    "eps 300": (["--eps", 300], "--eps: expected at most 255 levels, got 300"),
    "step size 0": (["--step-size", 0], "--step-size: expected a number above 0"),
    "no steps": (["--steps", 0], "--steps: expected a whole number from 1 to 1000000, got 0"),
    "no images": (["--images", 0], "--images: expected a whole number from 1 to 100000000, got 0"),
    "batches of none": (["--batch-size", 0], "--batch-size: expected a whole number"),
    "label 1000": (["--label", 1000], "--label: expected a class from 0 to 999, got 1000"),
    "negative label": (["--label", -1], "--label: expected a class from 0 to 999, got -1"),
    "k larger than the image": (["--k", 51530], "k: expected a whole number from 1 to 51528, got 51530"),
    "missing file": (["--data", "none.png"], "no such file or folder: none.png"),
    "corrupt file": (["--data", "corrupt.png"], "cannot read corrupt.png as an image"),
    "NaN image": (["--data", "nan.tiff"], "values that are not finite"),
    "empty folder": (["--data", "empty"], "no images in empty"),
    "other classes": (["--data", "cifar10-samples"], "has other classes than squeezenet"),
    "out is a file": (["--out", "corrupt.png"], "--out: expected a folder, got the file corrupt.png"),
    "no such device": (["--device", "abacus"], "--device: 'abacus' is not available here"),
}


@pytest.mark.parametrize("k", [0, 1024])
def test_k_is_looked_at_before_an_attack_that_does_not_need_it(k, fragile, monkeypatch):
    monkeypatch.setattr(attacks, "run", lambda *_, **__: pytest.fail("it was run"))
    options = (*SMALL, "--attack", "mass-center", "--k", k)
    assert_refused(fragile("attack", *options), f"--k: expected a whole number from 1 to 1023, got {k}")


@pytest.mark.parametrize("case", BAD)
def test_wrong_input_is_one_clear_line_and_exit_status_2(case, fragile, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "corrupt.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    Image.fromarray(np.full((4, 4), np.nan, np.float32)).save(tmp_path / "nan.tiff")
    arguments, message = BAD[case]
    assert_refused(fragile("attack", "--steps", 1, "--images", 1, "--out", "pictures", *arguments), message)
    assert not (tmp_path / "pictures").exists()


def test_a_defended_method_is_attacked(fragile):
    run = ("attack", *SMALL, "--images", 2, "--steps", 2, "--json")
    defence = "smoothgrad:samples=3,sigma=0.1"
    _, summary = records(fragile(*run, "--method", "input-x-gradient", "--defence", defence)[1])
    expected = saliency.SmoothGrad(saliency.InputXGradient(), samples=3, sigma=0.1)
    assert summary["settings"]["method"] == repr(expected)
    assert_refused(fragile(*run, "--defence", "prayer"), "--defence: expected one of softplus, smoothgrad")
    assert_refused(fragile(*run, "--defence", "softplus"), "--defence: softplus")
    assert_refused(fragile(*run, "--defence", "smoothgrad:samples=0"), "--defence: smoothgrad(samples=0)")
