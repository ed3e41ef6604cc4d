"""Before and after an attack."""

import dataclasses

import matplotlib as mpl
import numpy as np
import pytest
import torch

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


def test_a_failed_attack_is_named_on_a_line_that_fits(tiny, tiny_batch):
    images, _ = tiny_batch
    wrong = (tiny(images).argmax(dim=1) + 1) % 5
    failed = attacks.run(attacks.TopK(20), tiny, images, wrong, saliency.Gradient(), eps=0.05, steps=1, beta=8.0)
    figure = plots.before_after(images, failed, 0, k=20)
    last = figure.get_suptitle().splitlines()[-1]
    assert last.startswith("failed: predicted as class ")
    assert figure.axes[3].get_title().startswith("not perturbed: ")
    figure.canvas.draw()
    assert figure.texts[0].get_window_extent().width < figure.bbox.width


def test_before_after_draws_both_maps_on_one_scale(tiny_batch, result):
    figure = plots.before_after(tiny_batch[0], result, 0, k=20)
    old, new = (figure.axes[i].images[0] for i in (1, 4))
    assert old.get_clim() == new.get_clim()
    np.testing.assert_allclose(old.get_array(), result.maps_before[0])
    np.testing.assert_allclose(new.get_array(), result.maps[0])


class OnGPU(torch.Tensor):
    """A tensor that cannot be combined with those of the CPU, nor be drawn, before it is brought there."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        with torch._C.DisableTorchFunctionSubclass():
            if func is torch.Tensor.cpu:
                return args[0].as_subclass(torch.Tensor)
            if func is torch.Tensor.numpy or any(type(arg) is torch.Tensor for arg in args):
                raise RuntimeError("expected all tensors to be on the same device")
            found = func(*args, **(kwargs or {}))
            return found.as_subclass(cls) if isinstance(found, torch.Tensor) else found


def test_originals_on_the_cpu_and_a_result_on_a_gpu_are_drawn_together(tiny_batch, result):
    images, _ = tiny_batch
    moved = {
        name: dataclasses.replace(part, images=part.images.as_subclass(OnGPU))
        for name, part in (("before", result.before), ("after", result.after))
    }
    elsewhere = dataclasses.replace(result, **moved)
    before, after = (plots.before_after(images, found, 1, k=20) for found in (result, elsewhere))
    for expected, drawn in zip(before.axes, after.axes, strict=True):
        np.testing.assert_array_equal(drawn.images[0].get_array(), expected.images[0].get_array())


def test_a_figure_is_shown_once(tiny_batch, result):
    import matplotlib.pyplot as plt

    plots.before_after(tiny_batch[0], result, 0, k=20)
    assert plt.get_fignums() == []


def test_bad_index_is_refused(tiny_batch, result):
    with pytest.raises(ValueError, match="index: expected one of 6 images, got 6"):
        plots.before_after(tiny_batch[0], result, 6, k=20)
