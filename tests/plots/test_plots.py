import dataclasses

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from fragile_utils import attacks, plots, saliency

mpl.use("Agg")


@pytest.fixture
def result(tiny, tiny_batch):
    return attacks.run(attacks.TopK(20), tiny, *tiny_batch, saliency.Gradient(), eps=0.05, steps=3, beta=8.0)


def test_before_after_says_what_it_shows(tiny_batch, result):
    figure = plots.before_after(tiny_batch[0], result, 1, k=20, classes=("ant", "bee", "cat", "dog", "eel"))
    titles = [axes.get_title() for axes in figure.axes]
    name = ("ant", "bee", "cat", "dog", "eel")[int(result.labels[1])]
    assert titles[0] == f"original: {name}"
    assert titles[3] == f"perturbed: {name}"
    assert titles[1] == titles[4] == "its saliency map"
    assert titles[5] == "top 20 pixels"
    row = result.compare(20).iloc[1]
    assert f"intersection {row.topk_intersection:.3f}" in figure.get_suptitle()


def test_before_after_draws_both_maps_on_one_scale(tiny_batch, result):
    figure = plots.before_after(tiny_batch[0], result, 0, k=20)
    old, new = (figure.axes[i].images[0] for i in (1, 4))
    assert old.get_clim() == new.get_clim()
    np.testing.assert_allclose(old.get_array(), result.maps_before[0])
    np.testing.assert_allclose(new.get_array(), result.maps[0])


def test_the_change_is_drawn_around_grey():
    axes = Figure().subplots()
    image = torch.full((3, 2, 2), 0.5)
    change = torch.tensor([[0.01, -0.01], [0.0, 0.005]]).expand(3, 2, 2)
    picture = plots.show_change(axes, image, image + change).get_array()
    np.testing.assert_allclose(picture[..., 0], [[1, 0], [0.5, 0.75]], atol=1e-5)
    assert axes.get_title() == "the change, 50 times amplified"


def test_no_change_is_drawn_grey():
    picture = plots.show_change(Figure().subplots(), *[torch.rand(1, 3, 2, 2)[0]] * 2).get_array()
    np.testing.assert_allclose(picture, 0.5)


class OnGPU(torch.Tensor):
    """A tensor that cannot be combined with those of the CPU, nor be drawn, before it is brought there."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        with torch._C.DisableTorchFunctionSubclass():
            if func is torch.Tensor.cpu:
                return args[0].as_subclass(torch.Tensor)
            if func is torch.Tensor.numpy or any(type(arg) is torch.Tensor for arg in args):
                raise RuntimeError("expected all tensors to be on the same device")
            return func(*args, **(kwargs or {})).as_subclass(cls)


def test_originals_on_the_cpu_and_a_result_on_a_gpu_are_drawn_together(tiny_batch, result):
    images, _ = tiny_batch
    elsewhere = dataclasses.replace(result, images=result.images.as_subclass(OnGPU))
    before, after = (plots.before_after(images, found, 1, k=20) for found in (result, elsewhere))
    for expected, drawn in zip(before.axes, after.axes, strict=True):
        np.testing.assert_array_equal(drawn.images[0].get_array(), expected.images[0].get_array())


def test_top_pixels_are_marked_by_where_they_are():
    before = torch.tensor([[4.0, 3.0], [1.0, 0.0]])
    after = torch.tensor([[4.0, 1.0], [3.0, 0.0]])
    marks = plots.show_top(Figure().subplots(), before, after, 2).get_array()
    colors = [[plots.BLACK, plots.BLUE], [plots.ORANGE, "#ffffff"]]  # both, before; after, neither
    np.testing.assert_allclose(marks, [[to_rgb(color) for color in row] for row in colors], atol=1e-6)


def test_a_figure_is_shown_once(tiny_batch, result):
    import matplotlib.pyplot as plt

    plots.before_after(tiny_batch[0], result, 0, k=20)
    assert plt.get_fignums() == []


def test_bad_index_is_refused(tiny_batch, result):
    with pytest.raises(ValueError, match="index: expected one of 6 images, got 6"):
        plots.before_after(tiny_batch[0], result, 6, k=20)


# --- Explanations by example -----------------------------------------------------------------------------------------


def test_exemplars_shows_the_images_and_all_influences():
    from fragile_utils import influence

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
