"""Explanations by example, drawn."""

import matplotlib as mpl
import numpy as np
import pytest

from fragile_utils import influence, plots
from fragile_utils.influence import tasks

mpl.use("Agg")


def test_exemplars_shows_the_images_and_all_influences(digit_network, monkeypatch):
    monkeypatch.setattr(tasks, "digit_network", lambda *_: digit_network)
    trained = influence.digits(train=100).learn()
    batch = trained.test[:2]
    attack = influence.GradientSign(side="harmful")
    result = influence.run(attack, trained.task.features, trained.explain, batch.images, batch.labels, eps=32 / 255)
    figure = plots.exemplars(batch, result, trained.task.train, 1)
    shown = {axes.get_label(): axes for axes in figure.axes}
    top = influence.most(result.scores, 3, "harmful")[1].tolist()
    for place, i in enumerate(top, 1):
        pixels = np.asarray(shown[f"perturbed {place}"].get_images()[0].get_array())
        np.testing.assert_allclose(pixels, trained.task.train.images[i].permute(1, 2, 0))
    points = shown["influences"].collections[0].get_offsets()
    np.testing.assert_allclose(points[:, 0], -result.scores_before[1])
    np.testing.assert_allclose(points[:, 1], -result.scores[1])
    with pytest.raises(ValueError, match="index: expected one of 2 images, got 2"):
        plots.exemplars(batch, result, trained.task.train, 2)
