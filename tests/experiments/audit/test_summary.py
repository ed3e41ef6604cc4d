"""The numbers of an audit are those of its rows, and none is told that was not measured."""

import copy
import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
from audits import code

from fragile_utils import __version__, metrics
from fragile_utils._base import devices
from fragile_utils.attacks.algorithm import NO_LABEL
from fragile_utils.experiments import audit
from fragile_utils.plots import audit as pages


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
        min(audit.cell(summary["methods"][n], a, 2)["topk_intersection"]["mean"] for a in ("topk", "mass-center"))
        for n in summary["order"]
    ]
    assert kept == sorted(kept, reverse=True)


def test_an_audit_gone_on_with_by_another_version_says_both(found, tmp_path, monkeypatch):
    """Its folder keeps what another version has computed."""
    first, folder = found
    shutil.copytree(folder, tmp_path / "copy")
    next((tmp_path / "copy" / "work" / "attacks").rglob("*.parquet")).unlink()
    monkeypatch.setattr(devices, "__version__", "0.0.1")
    again = audit.follow(first.plan, tmp_path / "copy", code())
    now = audit.summarise(first)["versions"]
    assert now["fragile_utils"] == __version__
    assert audit.summarise(again)["versions"] == now | {"fragile_utils": f"0.0.1, {__version__}"}


def test_an_image_whose_answer_noise_or_an_everyday_change_has_changed_is_no_evidence_of_steadiness(found):
    first, _ = found
    natural = first.natural.copy()
    lost = (natural["attack"] == "jpeg") & (natural["index"] == 1)
    natural[["success", "reason"]] = [True, ""]
    natural.loc[lost, ["success", "reason", "topk_intersection"]] = [False, NO_LABEL, 1.0]
    natural.loc[natural["attack"] == "shift", ["success", "reason"]] = [False, NO_LABEL]
    method = audit.summarise(dataclasses.replace(first, natural=natural))["methods"]["gradient"]
    rows = natural[(natural["method"] == "gradient") & (natural["attack"] == "jpeg") & ~lost]
    jpeg = method["natural"]["jpeg"]
    assert (jpeg["images"], jpeg["answer_changed"]) == (3, 1)
    assert jpeg["topk_intersection"]["mean"] == pytest.approx(rows["topk_intersection"].mean())
    assert jpeg["topk_intersection"]["worst"] == rows["topk_intersection"].min()
    noise = first.attacks.copy()
    hit = (noise["attack"] == "random-sign") & (noise["index"] == 1) & (noise["eps"] == 2)
    noise[["success", "reason"]] = [True, ""]
    noise.loc[hit, ["success", "reason", "topk_intersection"]] = [False, NO_LABEL, 1.0]
    cell = audit.cell(
        audit.summarise(dataclasses.replace(first, attacks=noise))["methods"]["gradient"], "random-sign", 2
    )
    rows = noise[(noise["method"] == "gradient") & (noise["attack"] == "random-sign") & (noise["eps"] == 2) & ~hit]
    assert (cell["unchanged"], cell["topk_intersection"]["mean"]) == (
        1,
        pytest.approx(rows["topk_intersection"].mean()),
    )
    words = audit.summarise(dataclasses.replace(first, attacks=noise))["methods"]["gradient"]["paragraph"]
    assert "; the answer itself was changed on 1 of 3, which are left out here. Of what happens" in words
    shift = method["natural"]["shift"]
    assert shift["answer_changed"] == 3
    assert shift["topk_intersection"] == {"mean": None, "low": None, "high": None, "median": None}


def test_one_image_has_no_interval_and_no_verdict_of_steadiness(found):
    first, _ = found
    one = {name: getattr(first, name).query("index == 0") for name in ("attacks", "natural", "controls")}
    for kept, verdict in ((0.9, "not known: one image is too few."), (0.1, "not steady: ")):
        table = one["attacks"].assign(topk_intersection=kept)
        report = audit.summarise(dataclasses.replace(first, **one | {"attacks": table}))
        top = audit.cell(report["methods"]["gradient"], "topk", 2)["topk_intersection"]
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
    report = audit.summarise(dataclasses.replace(first, attacks=table))
    failure = report["methods"]["gradient"]["failure"]
    assert failure["noise_rms"]["images"] == 3 - len(images)
    assert failure["topk"]["images"] == 3
    if len(images) == 3:
        assert failure["noise_rms"] == {"median": None, "low": None, "high": None, "lost": 0, "images": 0}
        assert re.search(r"<td>0 of 0</td><td>–</td><td>–</td>", pages.page(report))


def test_reports_side_by_side_are_as_good_as_the_images_that_count(summary):
    def with_counts(**counts):
        report = copy.deepcopy(summary)
        for name, method in report["methods"].items():
            for cell in method["cells"]:
                cell["images"] = counts.get(name, 16)
        return report

    many, narrow = with_counts(), "intervals from so few tend to be too narrow."
    assert "One is on" not in pages.remarks(many, many)
    fewer = with_counts(gradient=1, **{"grad-cam": 5})
    said = pages.remarks(many, fewer)
    assert (
        f"One is on 1 image for gradient: a single image has no interval. One is on 5 images for grad-cam: {narrow}"
        in said
    )
    one = with_counts(**dict.fromkeys(summary["methods"], 1))
    assert "One is on 1 image: a single image has no interval." in pages.remarks(one, many)
    assert narrow not in pages.remarks(one, many)


def test_budgets_to_failure_have_their_interval_in_the_page(summary):
    report = copy.deepcopy(summary)
    report["methods"]["gradient"]["failure"]["topk"] |= {"lost": 2, "median": 1.5, "low": 0.7, "high": None}
    row = "<td>2 of 3</td><td>1.5</td><td>less than 1 to more than 8</td>"
    assert f'<th scope="row">top-k attack</th>{row}' in pages.page(report)
