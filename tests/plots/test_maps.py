"""Images, maps, changes and sets of pixels, drawn."""

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from fragile_utils import plots

mpl.use("Agg")


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


def test_top_pixels_are_marked_by_where_they_are():
    before = torch.tensor([[4.0, 3.0], [1.0, 0.0]])
    after = torch.tensor([[4.0, 1.0], [3.0, 0.0]])
    marks = plots.show_top(Figure().subplots(), before, after, 2).get_array()
    colors = [[plots.BLACK, plots.BLUE], [plots.ORANGE, "#ffffff"]]  # both, before; after, neither
    np.testing.assert_allclose(marks, [[to_rgb(color) for color in row] for row in colors], atol=1e-6)
