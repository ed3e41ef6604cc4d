"""How images, saliency maps and changes are drawn."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba_array
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from torch import Tensor

from fragile_utils import metrics

MAP_COLORS = "magma"
BLUE, ORANGE, BLACK, GREEN = "#0072b2", "#e69f00", "#000000", "#009e73"  # of the palette of Okabe and Ito
PANEL = 2.6  # inches, at most
WIDTH = 7.2  # inches: the book's column, so that text in a figure is as large as it says, and legible on a phone
DPI = 150


def panels(columns: int, rows: int = 1, extra_height: float = 0.0) -> tuple[Figure, np.ndarray]:
    """Return a figure of square panels and their axes: (columns,) for one row, else (rows, columns).

    Panels get smaller where more of them stand beside each other, so that the figure is as wide as the text. It is not
    in pyplot's hands, so that a notebook shows it once: where it is the value of a cell.
    """
    side = min(PANEL, WIDTH / columns)
    size = (side * columns, (side + 0.25) * rows + extra_height)  # a title above each row
    figure, axes = plt.subplots(rows, columns, figsize=size, dpi=DPI, layout="constrained", squeeze=False)
    plt.close(figure)
    return figure, axes[0] if rows == 1 else axes


def show_image(axes: Axes, image: Tensor, title: str = "") -> AxesImage:
    """Draw an image (3, H, W) in [0, 1]."""
    picture = axes.imshow(image.detach().cpu().clamp(0, 1).permute(1, 2, 0).numpy(), interpolation="nearest")
    return _bare(axes, picture, title)


def show_map(axes: Axes, saliency_map: Tensor, title: str = "", top: float | None = None) -> AxesImage:
    """Draw a saliency map (H, W); values from `top` on, by default its 99.5th percentile, share the lightest colour."""
    values = saliency_map.detach().cpu().double().numpy()
    top = top if top is not None else ceiling(saliency_map)
    picture = axes.imshow(values, cmap=MAP_COLORS, vmin=0, vmax=top or 1, interpolation="nearest")
    return _bare(axes, picture, title)


def show_change(axes: Axes, before: Tensor, after: Tensor, title: str | None = None) -> AxesImage:
    """Draw the difference of two images (3, H, W), amplified so that its largest value spans the range, around grey."""
    title = f"the change, {_gain(before, after):.0f} times amplified" if title is None else title
    return show_image(axes, change_pixels(before, after), title)


def show_top(axes: Axes, before: Tensor, after: Tensor, k: int, title: str | None = None) -> AxesImage:
    """Mark the `k` most salient pixels of two maps (H, W): before in blue, after in orange, both in black."""
    picture = axes.imshow(top_pixels(before, after, k).permute(1, 2, 0).numpy(), interpolation="nearest")
    for name, color, place in (("before", BLUE, 0.02), ("after", ORANGE, 0.36), ("both", BLACK, 0.66)):
        axes.text(place, -0.03, f"■ {name}", color=color, transform=axes.transAxes, va="top", fontsize=9)
    return _bare(axes, picture, f"top {k:,} pixels" if title is None else title)


def ceiling(saliency_map: Tensor) -> float:
    """Return the value from which on a map shows its lightest colour: the 99.5th percentile."""
    return float(np.quantile(saliency_map.detach().cpu().double().numpy(), 0.995))


def map_pixels(saliency_map: Tensor, top: float | None = None) -> Tensor:
    """Return a saliency map (H, W) as an image (3, H, W); `top` as in `show_map`."""
    top = top if top is not None else ceiling(saliency_map)
    values = (saliency_map.detach().cpu().double() / (top or 1)).clamp(0, 1).numpy()
    return torch.from_numpy(matplotlib.colormaps[MAP_COLORS](values)[..., :3]).permute(2, 0, 1).float()


def change_pixels(before: Tensor, after: Tensor) -> Tensor:
    """Return the difference of two images (3, H, W), amplified so that its largest value spans the range, on grey."""
    return (0.5 + _gain(before, after) * _difference(before, after)).clamp(0, 1)


def top_pixels(before: Tensor, after: Tensor, k: int) -> Tensor:
    """Return an image (3, H, W) of the `k` most salient pixels: of `before` blue, `after` orange, of both black."""
    old, new = (metrics.top_mask(m[None].detach(), k)[0].cpu().int() for m in (before, after))
    colors = torch.from_numpy(to_rgba_array(["#ffffff", BLUE, ORANGE, BLACK])[:, :3]).float()
    return colors[old + 2 * new].permute(2, 0, 1)


def _gain(before: Tensor, after: Tensor) -> float:
    largest = _difference(before, after).abs().max().item()
    return 0.5 / largest if largest > 0 else 1.0


def _difference(before: Tensor, after: Tensor) -> Tensor:
    """Return the difference, on the CPU; one of the two may be on a GPU."""
    return after.detach().cpu() - before.detach().cpu()


def _bare(axes: Axes, picture: AxesImage, title: str) -> AxesImage:
    axes.set_title(title, fontsize=9)
    axes.set_xticks([])
    axes.set_yticks([])
    return picture
