"""What an audit is held against: chance, shuffled weights, and pixels in a random order."""

import copy
import shutil

import numpy as np
import pandas as pd
import pytest
import sweeps
import torch
from audits import code

from fragile_utils import data, metrics, saliency
from fragile_utils.experiments import audit, deletion
from fragile_utils.experiments.audit import controls


def test_shuffled_weights_are_the_same_numbers_in_another_order():
    network = sweeps.network()
    before = copy.deepcopy(network.state_dict())
    shuffled = controls.with_shuffled_weights(network, 0)
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
    monkeypatch.setattr(controls, "AT_ONCE", at_once)
    network = sweeps.network()
    batch = sweeps.many_images(None, "crop", None)[:4].labelled_by(network)
    parts = sweeps.parts(sweeps.small(k=20))
    method = saliency.SmoothGrad(samples=2, sigma=0.3, shared=False)
    rows = controls._controls(method, network, sweeps.network(0.5), batch, parts)
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
