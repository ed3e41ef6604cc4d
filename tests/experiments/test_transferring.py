"""Transfer between small networks and methods, against attacks and measures one by one."""

import attentive
import numpy as np
import pandas as pd
import pytest
import torch
from networks import Tiny

from fragile_utils import attacks, data, metrics, models, saliency
from fragile_utils._base.seeds import for_each, random_signs
from fragile_utils.experiments import mean_interval, transfer, transfer_summary
from fragile_utils.experiments.transferring import PAIR

METHODS = {"gradient": saliency.Gradient(), "times image": saliency.InputXGradient()}
OPTIONS = {"attack": attacks.TopK(20), "eps": 8 / 255, "k": 20, "steps": 6, "step_size": 2 / 255, "seed": 3}


def network(seed):
    with torch.random.fork_rng():
        return models.Classifier(Tiny(seed), (0.5,) * 3, (0.25,) * 3, beta=8.0).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def case():
    """Two networks, and images that both, one, or none of them get right."""
    networks = {"a": network(0), "b": network(1)}
    images = torch.rand(60, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    predicted = [data.predict(model, images) for model in networks.values()]
    same = (predicted[0] == predicted[1]).nonzero().flatten()[:4].tolist()
    other = (predicted[0] != predicted[1]).nonzero().flatten()[:4].tolist()
    labels = predicted[0].clone()
    labels[other[2:]] = predicted[1][other[2:]]  # two that only the second gets right
    labels[same[3]] = (labels[same[3]] + 1) % 5  # one that none gets right
    assert len(same) == len(other) == 4
    return networks, data.Batch(images, labels)[same + other]


@pytest.fixture(scope="module")
def table(case):
    return transfer(case[0], METHODS, case[1], batch_size=3, **OPTIONS)


def test_each_pair_has_the_images_that_both_networks_get_right(case, table):
    networks, batch = case
    right = {name: data.predict(model, batch.images) == batch.labels for name, model in networks.items()}
    assert len(table.groupby(PAIR)) == 16
    for (source, _, target, _), rows in table.groupby(PAIR):
        expected = (right[source] & right[target]).nonzero().flatten().tolist()
        assert rows["index"].tolist() == expected
        assert rows["label"].tolist() == batch.labels[expected].tolist()
    assert {len(rows) for _, rows in table.groupby(PAIR)} == {3, 5}


def test_each_row_is_an_attack_on_its_source_measured_on_its_target(case, table):
    """Image by image, with the seed of its place."""
    networks, batch = case
    for row in table.iloc[::3].to_dict("records"):
        i, source, target = row["index"], networks[row["source"]], networks[row["target"]]
        image, label = batch.images[i : i + 1], batch.labels[i : i + 1]
        options = {name: OPTIONS[name] for name in ("eps", "steps", "step_size")}
        method = METHODS[row["source_method"]]
        result = attacks.run(attacks.TopK(20), source, image, label, method, seed=3 + i, **options)
        assert row["success"] == result.success.item()
        assert row["eps"] == pytest.approx(8)
        noisy = (image + 8 / 255 * for_each(random_signs, image, (3 + i,))).clamp(0, 1)
        shown = METHODS[row["target_method"]]
        before = shown(target, image, label)
        of_rms = attacks.matched_noise(result, source).images
        for prefix, changed in (("", result.images), ("noise_", noisy), ("rms_noise_", of_rms)):
            assert row[prefix + "kept"] == (data.predict(target, changed) == label).item()
            measured = metrics.compare(before, shown(target, changed, label), 20).iloc[0]
            for name in metrics.MEASURES:
                assert row[prefix + name] == pytest.approx(measured[name], abs=1e-3)


def test_each_image_keeps_its_noise_in_whatever_part_it_is(case):
    networks, batch = case
    methods = {"smoothgrad": saliency.SmoothGrad(samples=2, sigma=0.3, shared=False)}
    found = [transfer(networks, methods, batch, batch_size=size, **OPTIONS | {"steps": 1}) for size in (2, 8)]
    pd.testing.assert_frame_equal(*found, rtol=1e-4, atol=1e-5)


def test_the_diagonal_is_the_attack_itself_and_beats_its_noise(case, table):
    diagonal = table[(table.source == table.target) & (table.source_method == table.target_method) & table.success]
    assert diagonal["kept"].all()
    assert len(diagonal) > 12
    assert (diagonal.topk_intersection - diagonal.noise_topk_intersection).mean() < -0.1


@pytest.mark.parametrize("noise", ["noise", "rms_noise"])
def test_the_summary_pairs_attack_and_noise(table, noise):
    found = transfer_summary(table, "rank_correlation", noise)
    assert len(found) == 16
    for row in found.to_dict("records"):
        rows = table[np.logical_and.reduce([table[name] == row[name] for name in PAIR])]
        rows = rows[rows.success & rows.kept & rows[f"{noise}_kept"]]
        assert row["images"] == len(rows)
        differences = (rows.rank_correlation - rows[f"{noise}_rank_correlation"]).to_numpy()
        assert (row["gap"], row["gap_low"], row["gap_high"]) == pytest.approx(mean_interval(differences), nan_ok=True)
        assert row["mean"] - row["noise"] == pytest.approx(row["gap"], nan_ok=True)
    assert found["images"].max() >= 3


def test_images_whose_label_changed_on_the_target_do_not_count(table):
    changed = table.assign(kept=False)
    assert (transfer_summary(changed)["images"] == 0).all()
    only = pd.concat([table.assign(noise_kept=False), table[table.source == "a"]])
    assert set(transfer_summary(only).query("images > 0").source) == {"a"}


def test_between_kinds_of_networks_with_methods_of_their_own():
    networks = {"vit": attentive.ours().float(), "flat": _flat()}
    images = attentive.images(6)[0].float()
    batch = data.Batch(images, data.predict(networks["vit"], images))
    methods = {"gradient": saliency.Gradient(), "rollout": saliency.Rollout()}
    explains = {"vit": ["gradient", "rollout"], "flat": ["gradient"]}
    found = transfer(networks, methods, batch, explains=explains, **OPTIONS | {"steps": 2})
    assert found[(found.source == "vit") & (found.target == "vit")].groupby(PAIR).size().tolist() == [6] * 4
    assert not (found.query("source == 'flat'").source_method == "rollout").any()
    with pytest.raises(ValueError, match="expected a network with attention"):
        transfer(networks, methods, batch, **OPTIONS)


def _flat():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = torch.nn.Sequential(
            torch.nn.Conv2d(3, 4, 3, 4), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(4 * 64, 10)
        )
        return models.Classifier(layers, (0.5,) * 3, (0.25,) * 3).eval().requires_grad_(False)


def test_what_makes_no_sense_is_refused(case):
    networks, batch = case
    named = {name: network(i) for i, name in enumerate("ab")}
    named["a"].classes, named["b"].classes = tuple("vwxyz"), tuple("vwxy!")
    unlabelled = data.Batch(batch.images, torch.full_like(batch.labels, data.UNKNOWN))
    wrong = [
        ({"networks": named}, "networks: expected the same classes, got others for a and b"),
        ({"networks": {}}, "networks, methods: expected at least one of each"),
        ({"methods": {"gradient": "gradient"}}, r"methods: gradient: expected .*Gradient\(\)"),
        ({"batch": unlabelled}, "batch: expected images with labels, got 8 without"),
        ({"explains": {"a": ["gradient"]}}, "explains: expected methods for a, b, got them for a"),
        ({"k": 256}, "k: expected a whole number from 1 to 255, got 256"),
        ({"explains": {"a": ["gradient"] * 2, "b": []}}, "explains: expected each method once, got 'gradient' twice"),
        ({"explains": {"a": "gradient", "b": []}}, "explains: expected several methods for a, got 'gradient'"),
        ({"explains": {"a": ["lrp"], "b": []}}, "explains: expected some of gradient, times image, got 'lrp' for a"),
        ({"k": 257}, "k: expected"),
        ({"eps": 8}, "eps: expected"),
    ]
    for change, message in wrong:
        with pytest.raises(ValueError, match=message):
            transfer(**{"networks": networks, "methods": METHODS, "batch": batch} | OPTIONS | change)
    with pytest.raises(ValueError, match=r"measure: expected one of topk_intersection, .*, got 'x'"):
        transfer_summary(pd.DataFrame(), "x")
    with pytest.raises(ValueError, match="noise: expected one of noise, rms_noise, got 'rms'"):
        transfer_summary(pd.DataFrame(), noise="rms")
