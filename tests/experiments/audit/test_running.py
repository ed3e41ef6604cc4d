"""An audit in its folder: its rows, that it goes on, and what it does with images that have no explanation."""

import dataclasses
import json
import signal
import time

import numpy as np
import pandas as pd
import pytest
import sweeps
import torch
from audits import code, follow_alone, small
from PIL import Image
from torch import nn

from fragile_utils import attacks, data, models, saliency
from fragile_utils._base.code import Code
from fragile_utils.experiments import audit
from fragile_utils.experiments.audit import controls


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


def test_an_audit_is_gone_on_with_and_nothing_is_computed_twice(found, monkeypatch):
    first, folder = found
    for module, name in ((attacks, "run"), (controls, "_controls")):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("it was computed again"))
    again = audit.follow(first.plan, folder, code())
    for name in ("attacks", "natural", "controls"):
        pd.testing.assert_frame_equal(getattr(again, name), getattr(first, name))
    assert audit.summarise(again) == audit.summarise(first)


def test_another_audit_does_not_go_into_the_same_folder(found, tmp_path):
    first, folder = found
    other = audit.plan(small(steps=3), code())
    with pytest.raises(ValueError, match=r"was begun with other settings: .*steps 2 .now 3."):
        audit.follow(other, folder, code())
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(ValueError, match="expected a new folder, or that of an audit"):
        audit.follow(first.plan, tmp_path, code())
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_settings_under_which_nothing_was_computed_are_replaced(found, tmp_path, monkeypatch):
    """As after a mistake in them."""
    plan = found[0].plan
    other = dataclasses.replace(plan, audit=dataclasses.replace(plan.audit, steps=3))
    monkeypatch.setattr(attacks, "run", lambda *_, **__: throw())
    for wanted in (other, plan):
        with pytest.raises(LookupError):
            audit.follow(wanted, tmp_path, code())
    monkeypatch.undo()
    pd.testing.assert_frame_equal(audit.follow(plan, tmp_path, code()).attacks, found[0].attacks)
    assert json.loads((tmp_path / "audit.json").read_text())["steps"] == plan.audit.steps


def throw():
    raise LookupError


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
    method = audit.summarise(done)["methods"]["gradient"]
    dark = done.attacks["name"] == "z_dark.png"
    assert set(done.attacks["reason"][dark]) == {reason}
    assert method["empty"] == 1
    beside = done.controls["other_topk_intersection"].isna()  # that of the next image, which may have no map
    assert beside.tolist() == [False, True, False]
    rows = done.attacks[~dark & (done.attacks["attack"] == "topk") & (done.attacks["eps"] == 2)]
    cell = audit.cell(method, "topk", 2)
    assert (cell["images"], cell["topk_intersection"]["mean"]) == (2, pytest.approx(rows["topk_intersection"].mean()))
    assert "On 2 images, no value" in method["paragraph"]
    assert "On 1 of 3 images the map is zero everywhere or not finite; they are left out." in method["paragraph"]
    assert {part.names[0] for _, part, _ in audit.examples(done, tmp_path / "report", allowed, "cpu", "gradient")} == {
        "a0.png",
        "a1.png",
    }


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
        summary = audit.summarise(audit.follow(audit.plan(wanted, code()), tmp_path / str(smooth), code()))
        kept[smooth] = audit.cell(summary["methods"]["gradient"], "topk", 8)["topk_intersection"]
    assert kept[True]["low"] > kept[False]["high"]


@pytest.mark.slow
def test_an_audit_that_is_killed_ends_with_the_same_report(found, fork, tmp_path):
    first, _ = found

    def run(folder, seconds=None):
        """Run the audit, for some seconds at most; return for how long it ran."""
        begun, process = time.monotonic(), fork(follow_alone, first.plan, folder)
        process.join(seconds)
        process.kill()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        return time.monotonic() - begun

    run(tmp_path / "warm")  # the server's imports
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
