"""The rows of a shard against `attacks.run` itself, and short memory."""

import logging

import numpy as np
import pandas as pd
import pytest
import sweeps
import torch
from sweeps import CELL, files, same

from fragile_utils import attacks, experiments, metrics, saliency
from fragile_utils.attacks import maps
from fragile_utils.models.surrogate import choose_beta


def test_the_rows_are_those_of_attacks_run(finished):
    _, table = experiments.results(finished)
    plan = experiments.SweepFolder.load(finished)
    model, batch = plan.subjects[0].load(sweeps.parts(plan.sweep), "cpu")
    method = saliency.IntegratedGradients(3)
    for attack, name in ((attacks.TopK(15), "topk"), (attacks.RandomSign(), "random-sign")):
        given = (attack, model, batch.images, batch.labels, method)
        result = attacks.run(*given, eps=16 / 255, steps=3, step_size=4 / 255)
        expected = result.compare(20)
        rows = table[(table.method == "integrated-gradients") & (table.attack == name) & (table.eps == 16)]
        assert rows["success"].tolist() == expected["success"].tolist()
        assert rows["iteration"].tolist() == result.iteration.tolist()
        assert rows["reason"].tolist() == list(result.reasons)
        np.testing.assert_allclose(rows["linf"], 255 * expected["linf"], atol=1e-4)
        np.testing.assert_allclose(rows["rms"], 255 * result.rms, atol=0.05)
        noise = rows.filter(like="noise_")
        if name == "random-sign":
            assert noise.isna().all(axis=None)
        else:
            found = attacks.matched_noise(result, model)
            there = (found.labels == result.labels).numpy()
            measured = metrics.compare(result.maps_before, found.explanation, 20)
            assert noise.notna().all(axis=1).tolist() == there.tolist()
            np.testing.assert_allclose(
                noise[there]["noise_rank_correlation"], measured[there].rank_correlation, atol=0.02
            )
        np.testing.assert_allclose(rows["rank_correlation"], expected["rank_correlation"], atol=2e-2)
        np.testing.assert_allclose(rows["topk_intersection"], expected["topk_intersection"], atol=0.051)
        np.testing.assert_allclose(rows["confidence"], result.confidence, atol=1e-3)
        np.testing.assert_allclose(rows["dissimilarity"], result.dissimilarity, atol=1e-3)


def test_the_surrogate_does_not_depend_on_the_batch(tmp_path, monkeypatch):
    sweep = sweeps.small(models="sweeps:plain_network", methods="gradient", attacks="topk")
    sweeps.run(sweep, tmp_path, shard_size=7)
    (subject,) = experiments.SweepFolder.load(tmp_path).subjects
    model, batch = subject.load(sweeps.parts(sweep), "cpu")
    assert subject.beta == choose_beta(model, batch.images)

    def refuse(*_):
        pytest.fail("beta was chosen again")

    monkeypatch.setattr(maps, "beta_of", refuse)
    files(tmp_path)[0].unlink()
    sweeps.run(sweep, tmp_path)


def test_every_file_says_on_what_and_how_long_it_was_computed(finished):
    for about in experiments.status(finished).done.values():
        assert {"seconds", "device", "hardware", "versions", "finished", "batch_size", "notes"} <= about.keys()
        assert about["seconds"] > 0
        assert about["device"] == ("cuda" if torch.cuda.is_available() else "cpu")


# --- Short memory ----------------------------------------------------------------------------------------------------


def refuse_cuda():
    raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def refuse_cpu():
    torch.empty(2**58, dtype=torch.uint8)


KEYS = [*CELL, "index", "name", "label"]


@pytest.mark.parametrize("refuse", [refuse_cuda, refuse_cpu])
def test_short_memory_halves_the_batch_and_the_sweep_goes_on(refuse, finished, tmp_path, monkeypatch, caplog):
    sizes, run = [], attacks.run

    def limited(attack, model, images, labels, method, **options):
        sizes.append(len(images))
        if len(images) > 1 and isinstance(method, saliency.IntegratedGradients):
            refuse()
        return run(attack, model, images, labels, method, **options)

    monkeypatch.setattr(attacks, "run", limited)
    with caplog.at_level(logging.WARNING):
        sweeps.run(sweeps.small(), tmp_path, shard_size=3)
    assert caplog.messages == ["integrated-gradients: out of memory; from here on 1 images at a time"]
    assert sizes == [3, 3, 1] * 4 + [3] + [1] * 28
    a, b = sweeps.rows(tmp_path), sweeps.rows(finished)
    same(a[a.method == "gradient"], b[b.method == "gradient"])
    pd.testing.assert_frame_equal(a[KEYS], b[KEYS])
    noise = a.attack == "random-sign"
    pd.testing.assert_frame_equal(a[noise], b[noise], check_exact=False, rtol=1e-4, atol=1e-5)


def test_memory_too_short_for_one_image_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(attacks, "run", lambda *_, **__: refuse_cuda())
    with pytest.raises(ValueError, match=r"out of memory with one image at a time: CUDA out of memory"):
        sweeps.run(sweeps.small(), tmp_path)


def test_other_errors_are_no_lack_of_memory(tmp_path, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("expected scalar type Float")

    monkeypatch.setattr(attacks, "run", broken)
    with pytest.raises(RuntimeError, match="expected scalar type Float"):
        sweeps.run(sweeps.small(), tmp_path)
