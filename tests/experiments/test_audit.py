"""The audit of a model: what it plans, what it finds, that it goes on, and that its words follow its numbers."""

import copy
import dataclasses
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import sweeps
import torch
from PIL import Image
from torch import nn

from fragile_utils import __version__, attacks, data, metrics, models, saliency
from fragile_utils._base.code import Code
from fragile_utils.attacks.algorithm import NO_LABEL
from fragile_utils.experiments import _compute, audit, audit_controls, audit_summary, audit_words, deletion
from fragile_utils.plots import audit as pages

BLIND = """
import torch
from torch import nn
from fragile_utils import models


class Blind(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(192, 3)

    def forward(self, x):
        return self.layer({seen}.flatten(1))


def network():
    torch.manual_seed(0)
    return models.Classifier(Blind(), (0, 0, 0), (1, 1, 1), size=8).eval()
"""
CODE = ["sweeps:network", "sweeps:many_images"]
SMALL = {"images": 3, "steps": 2, "step_size": 4.0, "k": 20, "budgets": [1, 2, 8], "patience": None}


def small(**changes):
    fields = {"model": "sweeps:network", "data": "sweeps:many_images", "methods": ["gradient"]}
    return audit.Audit(**fields | SMALL | changes)


def code():
    return Code.allow(CODE)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What a small audit found, and its folder."""
    folder = tmp_path_factory.mktemp("audit") / "report"
    methods = ["gradient", "grad-cam", {"name": "integrated-gradients", "steps": 3}]
    plan = audit.plan(small(methods=methods), code(), "cpu")
    return audit.follow(plan, folder, code()), folder


@pytest.fixture(scope="module")
def summary(found):
    return audit_summary.summarise(found[0])


def test_the_plan_says_what_applies_and_how_long_it_takes():
    plan = audit.plan(small(methods=["gradient", {"name": "grad-cam", "layer": "none"}], images=100, k=None), code())
    assert [str(method) for method in plan.audit.methods] == ["gradient"]
    assert (plan.audit.images, plan.audit.k, plan.read) == (40, 64, 40)
    assert "none" in plan.refused["grad-cam"]
    assert plan.seconds["gradient"] > 0
    for words in ("40 images of sweeps:many_images", "gradient: about", "grad-cam does not apply", "expected time"):
        assert words in plan.describe()


def test_what_a_whole_audit_does_besides_is_said(summary):
    assert audit.Audit(model="squeezenet", data="imagenet-samples").left_out({}) == []
    said = audit.quick("squeezenet", "imagenet-samples").left_out({"deeplift(baseline=0)": "the reason"})
    assert said[0] == "Not audited: input-x-gradient, integrated-gradients, deep-taylor, smoothgrad."
    assert "at most 6 of 2, in place of 100 of 0.5" in said[1]
    assert said[2] == "Images: 8, in place of 16; intervals from so few tend to be too narrow."
    assert small().left_out({})[1] == "Budgets: 1, 2, 8, in place of 0.5, 1, 2, 4, 8."
    assert len(said) == 3
    assert summary["left_out"] == small(methods=["gradient", "grad-cam", "integrated-gradients"]).left_out({})


BAD = {
    "an unknown method": ({"methods": ["tea-leaves"]}, "methods: expected one of gradient"),
    "no method": ({"methods": []}, "methods: expected a list with at least one entry"),
    "no images": ({"images": 0}, "images: expected a whole number at least 1"),
    "a budget of 300": ({"budgets": [300]}, "budgets: expected at most 255 levels"),
    "a network": ({"model": "net.onnx"}, "ONNX holds no network"),
    "no pixel": ({"k": 0}, "k: expected a whole number at least 1"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_audit_is_refused_with_a_message(case):
    changes, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        small(**changes)


def test_code_is_called_only_where_it_is_allowed():
    with pytest.raises(ValueError, match="sweeps:network is code of your own"):
        audit.plan(small())


@pytest.mark.parametrize("k", [256, 1000])
def test_all_pixels_are_not_the_most_salient(k):
    with pytest.raises(ValueError, match=f"k: expected at most 255, less than the pixels of an image, got {k}"):
        audit.plan(small(k=k), code(), "cpu")


def test_what_a_killed_process_has_left_half_written_does_not_close_a_folder(tmp_path):
    (tmp_path / ".0123456789abcdef.part").write_bytes(b"{")
    audit.check_folder(tmp_path)
    (tmp_path / ".hidden").write_bytes(b"mine")
    with pytest.raises(ValueError, match="expected a new folder, or that of an audit"):
        audit.check_folder(tmp_path)


def test_the_rows_are_those_of_attacks_on_these_images(found):
    table = found[0].attacks
    network, batch = sweeps.network(), sweeps.many_images(None, "crop", None)
    rows = table[(table["method"] == "gradient") & (table["attack"] == "topk") & (table["eps"] == 2)]
    places = [int(name.removesuffix(".png")) for name in rows["name"]]
    images = batch.images[places]
    options = {"eps": 2 / 255, "steps": 2, "step_size": 4 / 255}
    result = attacks.run(
        attacks.TopK(20), network, images, data.predict(network, images), saliency.Gradient(), **options
    )
    np.testing.assert_allclose(rows["topk_intersection"], result.compare(20)["topk_intersection"])
    assert list(found[0].hashes["images"]) == list(rows["name"])


def test_the_summary_is_json_and_its_means_are_those_of_the_rows(found, summary):
    table = found[0].attacks
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert summary["schema"] == "fragile-audit/2"
    for name, method in summary["methods"].items():
        for cell in method["cells"]:
            rows = table[
                (table["method"] == name) & (table["attack"] == cell["attack"]) & (table["eps"] == cell["eps"])
            ]
            top = cell["topk_intersection"]
            assert top["mean"] == pytest.approx(rows["topk_intersection"].mean())
            assert top["worst"] == rows["topk_intersection"].min()
            assert top["worst_image"] in set(rows[rows["topk_intersection"] == top["worst"]]["name"])
            assert top["low"] <= top["mean"] <= top["high"]
            shift = cell["center_shift"]
            assert shift["worst"] == pytest.approx(rows["center_shift"].max())
        assert set(method["natural"]) == {"jpeg", "shift", "brightness", "resize"}
    kept = [
        min(
            audit_summary.cell(summary["methods"][n], a, 2)["topk_intersection"]["mean"]
            for a in ("topk", "mass-center")
        )
        for n in summary["order"]
    ]
    assert kept == sorted(kept, reverse=True)


def test_an_audit_is_gone_on_with_and_nothing_is_computed_twice(found, monkeypatch):
    first, folder = found
    for module, name in ((attacks, "run"), (audit_controls, "_controls")):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("it was computed again"))
    again = audit.follow(first.plan, folder, code())
    for name in ("attacks", "natural", "controls"):
        pd.testing.assert_frame_equal(getattr(again, name), getattr(first, name))
    assert audit_summary.summarise(again) == audit_summary.summarise(first)


def test_an_audit_gone_on_with_by_another_version_says_both(found, tmp_path, monkeypatch):
    """Its folder keeps what another version has computed."""
    first, folder = found
    shutil.copytree(folder, tmp_path / "copy")
    next((tmp_path / "copy" / "work" / "attacks").rglob("*.parquet")).unlink()
    monkeypatch.setattr(_compute, "__version__", "0.0.1")
    again = audit.follow(first.plan, tmp_path / "copy", code())
    now = audit_summary.summarise(first)["versions"]
    assert now["fragile_utils"] == __version__
    assert audit_summary.summarise(again)["versions"] == now | {"fragile_utils": f"0.0.1, {__version__}"}


def test_another_audit_does_not_go_into_the_same_folder(found, tmp_path):
    first, folder = found
    other = audit.plan(small(steps=3), code())
    with pytest.raises(ValueError, match=r"was begun with other settings: .*steps 2 .now 3."):
        audit.follow(other, folder, code())
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(ValueError, match="expected a new folder, or that of an audit"):
        audit.follow(first.plan, tmp_path, code())
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_examples_are_the_images_of_the_rows(found):
    first, folder = found
    table = first.attacks[(first.attacks["method"] == "gradient") & (first.attacks["attack"] == "topk")]
    left = table.groupby("name")["topk_intersection"].mean()
    for word, part, results in audit.examples(first, folder, code(), "cpu", "gradient"):
        rows = table[table["name"] == part.names[0]]
        got = [result.compare(20)["topk_intersection"][0] for result in results]
        assert got == pytest.approx(rows["topk_intersection"].tolist())
        if word != "median":
            assert left[part.names[0]] == (left.min() if word == "worst" else left.max())


# --- Controls --------------------------------------------------------------------------------------------------------


class Corner(nn.Module):
    """A network that looks at the upper left corner alone."""

    def forward(self, images):
        score = images[:, :, :4, :4].mean((1, 2, 3))
        return torch.stack([8 * score - 4, 4 - 8 * score], 1)


def corner(lit):
    maps = torch.full((2, 8, 8), 1e-6)
    maps[:, :4, :4] = 1.0 if lit else 0.0
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.2
    images[:, :, :4, :4] += 0.8
    return Corner().eval(), images, torch.zeros(2, dtype=torch.int64), maps


def test_deletion_and_insertion_tell_a_map_that_says_something_from_one_that_does_not():
    right, wrong = corner(True), corner(False)
    assert (deletion.deletion(*right) < deletion.deletion(*wrong) - 0.1).all()
    assert (deletion.insertion(*right) > deletion.insertion(*wrong) + 0.1).all()


def test_deletion_is_the_area_under_the_confidence():
    model, images, labels, maps = corner(True)
    maps = maps + 1e-9 * torch.arange(64.0).view(8, 8)  # no ties
    expected = torch.zeros(2)
    for i in range(2):  # naively, image by image
        order, values, shown = maps[i].flatten().argsort(descending=True), [], images[i].clone()
        for step in range(5):
            gone = order[: round(64 * step / 4)]
            shown = images[i].clone().flatten(1)
            shown[:, gone] = images[i].mean((1, 2))[:, None]
            values.append(model(shown.view(1, 3, 8, 8)).softmax(1)[0, 0])
        expected[i] = sum((a + b) / 2 for a, b in itertools.pairwise(values)) / 4
    torch.testing.assert_close(deletion.deletion(model, images, labels, maps, steps=4), expected)


@pytest.mark.parametrize("measure", [deletion.deletion, deletion.insertion])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"maps": torch.ones(1, 8, 8)}, r"maps: expected one for each image, \(2, 8, 8\), got \(1, 8, 8\)"),
        ({"maps": torch.ones(2, 4, 8)}, r"maps: expected one for each image, \(2, 8, 8\), got \(2, 4, 8\)"),
        ({"maps": -torch.ones(2, 8, 8)}, "maps: expected finite, non-negative"),
        ({"images": torch.rand(1, 3, 8, 8)}, r"labels: expected an integer tensor \(1,\), got shape \(2,\)"),
        ({"images": 255 * torch.ones(2, 3, 8, 8)}, "images: .*; divide by 255"),
        ({"labels": torch.tensor([0])}, r"labels: expected an integer tensor \(2,\), got shape \(1,\)"),
        ({"labels": torch.tensor([0, 2])}, "labels: expected classes from 0 to 1, got 2"),
        ({"labels": torch.tensor([0, -1])}, "labels: expected classes at least 0, got -1"),
        ({"steps": 0}, "steps: expected a whole number at least 1, got 0"),
        ({"steps": 2.5}, "steps: expected a whole number at least 1, got 2.5"),
    ],
)
def test_deletion_refuses_what_it_would_have_to_guess(measure, changes, message):
    given = dict(zip(("model", "images", "labels", "maps"), corner(True), strict=True))
    with pytest.raises(ValueError, match=message):
        measure(**given | changes)


def test_shuffled_weights_are_the_same_numbers_in_another_order():
    network = sweeps.network()
    before = copy.deepcopy(network.state_dict())
    shuffled = audit_controls.with_shuffled_weights(network, 0)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    for a, b in zip(network.parameters(), shuffled.parameters(), strict=True):
        assert not torch.equal(a, b)
        assert torch.equal(a.flatten().sort().values, b.flatten().sort().values)


def test_chance_is_that_of_other_images(found):
    first, _ = found
    rows = first.controls[first.controls["method"] == "gradient"].reset_index()
    network, batch = sweeps.network(), sweeps.many_images(None, "crop", None)
    images = batch.images[[int(name.removesuffix(".png")) for name in rows["name"]]]
    maps = saliency.Gradient()(network, images, data.predict(network, images))
    expected = metrics.topk_intersection(maps, maps.roll(-1, 0), 20)
    np.testing.assert_allclose(rows["other_topk_intersection"], expected)


@pytest.mark.parametrize("at_once", [1, 2, 4, 8])
def test_controls_are_those_of_each_image_with_its_own_noise(at_once, found, monkeypatch):
    monkeypatch.setattr(audit_controls, "AT_ONCE", at_once)
    network = sweeps.network()
    batch = sweeps.many_images(None, "crop", None)[:4].labelled_by(network)
    parts = sweeps.parts(sweeps.small(k=20))
    method = saliency.SmoothGrad(samples=2, sigma=0.3, shared=False)
    rows = audit_controls._controls(method, network, sweeps.network(0.5), batch, parts)
    maps = method(network, batch.images, batch.labels)
    expected = metrics.compare(maps, maps.roll(-1, 0), 20)
    for measure in metrics.MEASURES:
        np.testing.assert_allclose(rows[f"other_{measure}"], expected[measure], rtol=1e-4, atol=1e-5)


def test_controls_of_images_that_do_not_fit_together_are_computed_fewer_at_a_time(found, tmp_path, monkeypatch):
    first, _ = found
    sizes, area = [], deletion._area

    def limited(model, images, *rest, **options):
        sizes.append(len(images))
        if len(images) > 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return area(model, images, *rest, **options)

    monkeypatch.setattr(deletion, "_area", limited)
    again = audit.follow(first.plan, shutil.copytree(found[1], tmp_path / "copy"), code())
    assert not sizes
    shutil.rmtree(tmp_path / "copy" / "work" / "controls")
    again = audit.follow(first.plan, tmp_path / "copy", code())
    assert sizes == [3, *[1] * 12] * 3
    pd.testing.assert_frame_equal(again.controls, first.controls, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        ("(x - 0.5).relu()", "its map is zero everywhere"),
        ("(x * x.square().sum((1, 2, 3), keepdim=True).sqrt())", "its map is not finite"),
    ],
    ids=["zero", "not finite"],
)
def test_an_image_without_an_explanation_is_left_out_and_said(seen, reason, tmp_path):
    """Nothing can be taken from a map of zeros: it is no steady one."""
    path = tmp_path / "blind.py"
    path.write_text(BLIND.replace("{seen}", seen))
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "z_dark.png")
    noise = np.random.default_rng(0)
    for i in range(2):
        Image.fromarray(noise.integers(0, 255, (8, 8, 3), np.uint8)).save(tmp_path / f"a{i}.png")
    wanted = small(model=f"{path}:network", data=str(tmp_path), k=5)
    allowed = Code.allow([f"{path}:network"])
    done = audit.follow(audit.plan(wanted, allowed, "cpu"), tmp_path / "report", allowed)
    method = audit_summary.summarise(done)["methods"]["gradient"]
    dark = done.attacks["name"] == "z_dark.png"
    assert set(done.attacks["reason"][dark]) == {reason}
    assert method["empty"] == 1
    beside = done.controls["other_topk_intersection"].isna()  # that of the next image, which may have no map
    assert beside.tolist() == [False, True, False]
    rows = done.attacks[~dark & (done.attacks["attack"] == "topk") & (done.attacks["eps"] == 2)]
    cell = audit_summary.cell(method, "topk", 2)
    assert (cell["images"], cell["topk_intersection"]["mean"]) == (2, pytest.approx(rows["topk_intersection"].mean()))
    assert "On 2 images, no value" in method["paragraph"]
    assert "On 1 of 3 images the map is zero everywhere or not finite; they are left out." in method["paragraph"]
    assert {part.names[0] for _, part, _ in audit.examples(done, tmp_path / "report", allowed, "cpu", "gradient")} == {
        "a0.png",
        "a1.png",
    }


# --- Words ----------------------------------------------------------------------------------------------------------


def changed(summary, kept, down=(-0.2, -0.1), up=(0.1, 0.2)):
    """A summary in which attacks on gradient leave `kept`, and with these intervals of the differences."""
    made = copy.deepcopy(summary)
    method = made["methods"]["gradient"]
    for cell in method["cells"]:
        if cell["attack"] != "random-sign":
            cell["topk_intersection"] |= {"mean": kept, "low": kept, "high": kept, "worst": kept}
        else:
            cell["topk_intersection"]["mean"] = 1.0
    for kind, (low, high) in (("deletion", down), ("insertion", up)):
        method[kind]["difference"] |= {"low": low, "high": high}
    return made


@pytest.mark.parametrize(
    ("kept", "verdict"),
    [(0.1, "not steady: whoever knows"), (0.5, "partly steady"), (0.71, "steady, on these images, against")],
)
def test_words_follow_the_numbers(summary, kept, verdict):
    said = audit_words.paragraph("gradient", changed(summary, kept))
    assert said.startswith(f"gradient: {verdict}")
    assert f"left {100 * kept:.0f} % (95 % interval from" in said
    assert "points at pixels that matter" in said


def test_an_attack_that_does_less_than_noise_is_no_evidence(summary):
    weak = changed(summary, 0.99)
    for cell in weak["methods"]["gradient"]["cells"]:
        if cell["attack"] == "random-sign":
            cell["topk_intersection"] |= {"mean": 0.9}
    assert audit_words.paragraph("gradient", weak).startswith("gradient: not known: random noise moved it further")


def test_images_on_which_an_attack_did_not_succeed_are_counted_in_words(summary):
    some = changed(summary, 0.5)
    for cell in some["methods"]["gradient"]["cells"]:
        cell["unchanged"] = 2
    said = audit_words.paragraph("gradient", some)
    assert "On 2 of 3 it found no way that kept the answer; there 100 % is counted." in said


def test_steady_is_called_only_what_is_steady_to_the_end_of_its_interval(summary):
    unsure = changed(summary, 0.75)
    for cell in unsure["methods"]["gradient"]["cells"]:
        cell["topk_intersection"] |= {"low": 0.65}
    assert audit_words.paragraph("gradient", unsure).startswith("gradient: partly steady: ")


def test_a_name_does_not_command_the_terminal_or_turn_the_words_around(summary):
    hostile = changed(summary, 0.5)
    for cell in hostile["methods"]["gradient"]["cells"]:
        cell["topk_intersection"]["worst_image"] = "a\u202e\n\x1b[2J.png"
    assert r"on the worst image (a\u202e\n\x1b[2J.png) 50 %." in audit_words.paragraph("gradient", hostile)


def test_a_change_that_can_be_seen_is_not_called_hard_to_see(summary):
    assert "more than 2 of 255 levels, which is hard to see, and" in audit_words.paragraph("gradient", summary)
    large = copy.deepcopy(summary)
    large["settings"]["budgets"] = [8]
    assert "more than 8 of 255 levels, and the network" in audit_words.paragraph("gradient", large)


def test_an_everyday_change_that_changes_the_answer_is_counted_in_words(summary):
    report = copy.deepcopy(summary)
    natural = report["methods"]["gradient"]["natural"]
    for change, left in (("jpeg", 0.2), ("shift", 0.1), ("brightness", 0.9), ("resize", 0.8)):
        natural[change]["topk_intersection"]["mean"] = left
        natural[change]["answer_changed"] = 1 if change in ("jpeg", "resize") else 0
    said = audit_words.paragraph("gradient", report)
    assert "compression with JPEG at quality 90 moved it most, and left 20 %; a shift by one pixel" in said
    assert (
        "left 10 % where they were. The answer itself was changed by compression with JPEG at quality 90 on 1 of 3, by "
        "making it smaller and large again on 1 of 3; these are left out here." in said
    )


def test_an_image_whose_answer_noise_or_an_everyday_change_has_changed_is_no_evidence_of_steadiness(found):
    first, _ = found
    natural = first.natural.copy()
    lost = (natural["attack"] == "jpeg") & (natural["index"] == 1)
    natural[["success", "reason"]] = [True, ""]
    natural.loc[lost, ["success", "reason", "topk_intersection"]] = [False, NO_LABEL, 1.0]
    natural.loc[natural["attack"] == "shift", ["success", "reason"]] = [False, NO_LABEL]
    method = audit_summary.summarise(dataclasses.replace(first, natural=natural))["methods"]["gradient"]
    rows = natural[(natural["method"] == "gradient") & (natural["attack"] == "jpeg") & ~lost]
    jpeg = method["natural"]["jpeg"]
    assert (jpeg["images"], jpeg["answer_changed"]) == (3, 1)
    assert jpeg["topk_intersection"]["mean"] == pytest.approx(rows["topk_intersection"].mean())
    assert jpeg["topk_intersection"]["worst"] == rows["topk_intersection"].min()
    noise = first.attacks.copy()
    hit = (noise["attack"] == "random-sign") & (noise["index"] == 1) & (noise["eps"] == 2)
    noise[["success", "reason"]] = [True, ""]
    noise.loc[hit, ["success", "reason", "topk_intersection"]] = [False, NO_LABEL, 1.0]
    cell = audit_summary.cell(
        audit_summary.summarise(dataclasses.replace(first, attacks=noise))["methods"]["gradient"], "random-sign", 2
    )
    rows = noise[(noise["method"] == "gradient") & (noise["attack"] == "random-sign") & (noise["eps"] == 2) & ~hit]
    assert (cell["unchanged"], cell["topk_intersection"]["mean"]) == (
        1,
        pytest.approx(rows["topk_intersection"].mean()),
    )
    words = audit_summary.summarise(dataclasses.replace(first, attacks=noise))["methods"]["gradient"]["paragraph"]
    assert "; the answer itself was changed on 1 of 3, which are left out here. Of what happens" in words
    shift = method["natural"]["shift"]
    assert shift["answer_changed"] == 3
    assert shift["topk_intersection"] == {"mean": None, "low": None, "high": None, "median": None}


def test_a_budget_below_the_smallest_is_not_told_as_if_it_had_been_tried(summary):
    report = copy.deepcopy(summary)
    failure = report["methods"]["gradient"]["failure"]["topk"]
    for median, words in (
        (0.7, "on most it took less than 1 level, the smallest change that was tried."),
        (1.5, "in the median it took 1.5 levels (95 % interval from 0.7 levels to more than 8 levels)."),
        (None, "on most it took more than 8 levels."),
    ):
        failure |= {"lost": 2, "images": 3, "median": median, "low": 0.7, "high": None}
        said = audit_words.paragraph("gradient", report)
        lost = "With at most 8 levels, the top-k attack displaced half of these pixels on 2 of 3 images"
        assert f"{lost}; {words}" in said
    failure |= {"lost": 0, "median": None, "low": None, "high": None}
    assert "On no image did the top-k attack displace half of these pixels, even with 8 levels." in (
        audit_words.paragraph("gradient", report)
    )


def test_one_image_has_no_interval_and_no_verdict_of_steadiness(found):
    first, _ = found
    one = {name: getattr(first, name).query("index == 0") for name in ("attacks", "natural", "controls")}
    for kept, verdict in ((0.9, "not known: one image is too few."), (0.1, "not steady: ")):
        table = one["attacks"].assign(topk_intersection=kept)
        report = audit_summary.summarise(dataclasses.replace(first, **one | {"attacks": table}))
        top = audit_summary.cell(report["methods"]["gradient"], "topk", 2)["topk_intersection"]
        assert (top["mean"], top["low"], top["high"]) == (kept, None, None)
        assert report["methods"]["gradient"]["paragraph"].startswith(f"gradient: {verdict}")
        assert "interval" not in report["methods"]["gradient"]["paragraph"]
        _, text = pages.compared(report, report, ("a", "b"))
        assert "<td>unknown</td>" in text
        assert "<td>neither</td>" not in text
        assert f"<td>{kept:.2f}</td>" in pages.page(report)


@pytest.mark.parametrize("images", [{1}, {0, 1, 2}], ids=["of one image", "of all"])
def test_noise_that_was_never_measured_is_not_called_survived(found, images):
    """Noise of the size of each of the attacks has changed the answer."""
    first, _ = found
    table = first.attacks.copy()
    table["success"] = True
    table.loc[table["index"].isin(images), [f"noise_{measure}" for measure in metrics.MEASURES]] = np.nan
    report = audit_summary.summarise(dataclasses.replace(first, attacks=table))
    failure = report["methods"]["gradient"]["failure"]
    assert failure["noise_rms"]["images"] == 3 - len(images)
    assert failure["topk"]["images"] == 3
    if len(images) == 3:
        assert failure["noise_rms"] == {"median": None, "low": None, "high": None, "lost": 0, "images": 0}
        assert re.search(r"<td>0 of 0</td><td>–</td><td>–</td>", pages.page(report))


def test_what_is_no_more_than_maps_of_other_images_share_is_not_called_steady(summary):
    same = changed(summary, 0.8)
    same["methods"]["gradient"]["chance"]["other"]["topk_intersection"]["mean"] = 0.85
    said = audit_words.paragraph("gradient", same)
    assert said.startswith("gradient: not known: what is left cannot be told from what the explanations of two")


def test_budgets_to_failure_have_their_interval_in_the_page(summary):
    report = copy.deepcopy(summary)
    report["methods"]["gradient"]["failure"]["topk"] |= {"lost": 2, "median": 1.5, "low": 0.7, "high": None}
    row = "<td>2 of 3</td><td>1.5</td><td>less than 1 to more than 8</td>"
    assert f'<th scope="row">top-k attack</th>{row}' in pages.page(report)


SHOWN = {
    "both": ((-0.2, -0.1), (0.1, 0.2), "confidence, and putting them into an empty image raises it, more than pixels"),
    "one": ((-0.2, -0.1), (-0.1, 0.2), "drawn at random; putting them into an empty image did not show it."),
    "the other": ((-0.2, 0.1), (0.1, 0.2), "drawn at random; taking them away did not show it."),
}


@pytest.mark.parametrize("case", SHOWN)
def test_which_of_the_two_ways_has_shown_it_is_said(summary, case):
    down, up, words = SHOWN[case]
    assert words in audit_words.paragraph("gradient", changed(summary, 0.5, down, up))


def test_a_steady_map_that_says_nothing_is_called_so(summary):
    said = audit_words.paragraph("gradient", changed(summary, 0.9, (-0.1, 0.1), (-0.1, 0.1)))
    assert "even if it is steady, it may say little" in said


# --- Slow ------------------------------------------------------------------------------------------------------------


def trained(smooth, images, labels):
    """A network for these images; the smooth one has softplus, and a penalty on the change of its gradient nearby."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        kind = nn.Softplus(5) if smooth else nn.ReLU()
        first, second = nn.Conv2d(3, 16, 5, 2), nn.Conv2d(16, 32, 3, 2)
        network = nn.Sequential(first, kind, second, kind, nn.Flatten(), nn.Linear(512, 64), kind, nn.Linear(64, 2))
        optimiser = torch.optim.Adam(network.parameters(), 3e-3)

        def gradient(x):
            x = x.clone().requires_grad_()
            score = network(x).gather(1, labels[:, None]).sum()
            return torch.autograd.grad(score, x, create_graph=True)[0].flatten(1)

        for _ in range(100):
            loss = nn.functional.cross_entropy(network(images), labels)
            if smooth:
                here, beside = gradient(images), gradient(images + 0.03 * torch.randn_like(images).sign())
                loss = loss + ((beside - here).square().sum(1) / here.square().sum(1)).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return network.eval()


def two_classes(count=64):
    """Two discs in noise, each bright or dark: one class where they are alike, the other where they are not."""
    generator = torch.Generator().manual_seed(5)
    images = 0.3 + 0.4 * torch.rand(count, 3, 24, 24, generator=generator)
    left, right = torch.arange(count) % 2, torch.arange(count) // 2 % 2
    rows, columns = torch.meshgrid(torch.arange(24), torch.arange(24), indexing="ij")
    for place, bright in ((6, left), (17, right)):
        disc = ((rows - 12) ** 2 + (columns - place) ** 2 < 16).float()
        images += (0.15 * (2 * bright - 1)).view(-1, 1, 1, 1) * disc
    return images.clamp(0, 1), (left + right) % 2


@pytest.mark.slow
def test_the_audit_says_which_of_two_networks_is_steadier(tmp_path, monkeypatch):
    images, labels = two_classes()
    networks = {smooth: trained(smooth, images, labels) for smooth in (False, True)}
    kept = {}
    for smooth, network in networks.items():
        assert (network(images).argmax(1) == labels).double().mean() > 0.9
        model = models.Classifier(network, (0.0,) * 3, (1.0,) * 3, size=24, beta=20.0).eval().requires_grad_(False)
        batch = data.Batch(images, labels, names=tuple(f"{i}.png" for i in range(len(images))))
        monkeypatch.setattr(sweeps, "network", lambda model=model: model)
        monkeypatch.setattr(sweeps, "many_images", lambda size, fit, limit, batch=batch: batch)
        wanted = small(images=8, steps=20, step_size=1.0, k=40, budgets=[2, 8], methods=["gradient"])
        summary = audit_summary.summarise(audit.follow(audit.plan(wanted, code()), tmp_path / str(smooth), code()))
        kept[smooth] = audit_summary.cell(summary["methods"]["gradient"], "topk", 8)["topk_intersection"]
    assert kept[True]["low"] > kept[False]["high"]


@pytest.mark.slow
def test_an_audit_that_is_killed_ends_with_the_same_report(found, tmp_path):
    first, _ = found
    command = [sys.executable, "-c", KILLED]
    environment = os.environ | {"PYTHONPATH": sweeps.PYTHONPATH, "OMP_NUM_THREADS": "1"}

    def run(folder, seconds=None):
        """Run the audit, for some seconds after it has begun; return for how long it ran."""
        with subprocess.Popen([*command, str(folder)], env=environment, stdout=subprocess.PIPE, text=True) as process:
            process.stdout.readline()
            begun = time.monotonic()
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
        assert process.returncode in (0, -signal.SIGKILL)
        return time.monotonic() - begun

    whole, rng = run(tmp_path / "alone"), np.random.default_rng(0)
    shards = len([*tmp_path.glob("alone/**/*.parquet")])
    found_by_the_next = []
    for _ in range(10):
        run(tmp_path / "report", rng.uniform(0, whole / 3))
        found_by_the_next.append(len([*tmp_path.glob("report/**/*.parquet")]))
    assert len({*found_by_the_next} - {0, shards}) > 1  # some fell amid the computation
    run(tmp_path / "report")
    again = audit.follow(first.plan, tmp_path / "report", code())
    for name in ("attacks", "natural", "controls"):
        pd.testing.assert_frame_equal(getattr(again, name), getattr(first, name), check_exact=True)


KILLED = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path.insert(0, "tests")
from fragile_utils.experiments import audit
from fragile_utils._base.code import Code
code = Code.allow(["sweeps:network", "sweeps:many_images"])
methods = ["gradient", "grad-cam", {"name": "integrated-gradients", "steps": 3}]
small = {"images": 3, "steps": 2, "step_size": 4.0, "k": 20, "budgets": [1, 2, 8], "patience": None}
wanted = audit.Audit(model="sweeps:network", data="sweeps:many_images", methods=methods, **small)
plan = audit.plan(wanted, code, "cpu")
print("begun", flush=True)
audit.follow(plan, Path(sys.argv[1]), code)
"""
