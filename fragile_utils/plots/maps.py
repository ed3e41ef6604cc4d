"""Static figures, one visual language for the whole book.

Saliency maps are drawn in one sequential colour map, on one scale for the maps that are compared; the colours that mark
sets of pixels are told apart by readers with any kind of colour vision.
"""

from collections.abc import Sequence

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba_array
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from torch import Tensor

from fragile_utils import attacks, checks, data, influence, influence_attack, metrics

MAP_COLORS = "magma"
BLUE, ORANGE, BLACK = "#0072b2", "#e69f00", "#000000"  # of the palette of Okabe and Ito
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


def before_after(
    before: Tensor, result: attacks.Result, index: int = 0, *, k: int, classes: Sequence[str] = ()
) -> Figure:
    """Return the figure of one attack: image, map and change in the first row, what became of them in the second.

    Parameters
    ----------
    before : Tensor (N, 3, H, W)
        The original images that were given to `attacks.run`.
    result : Result
        What it returned.
    index : int
        Which image of the batch.
    k : int
        How many pixels count as most salient.
    classes : sequence of str
        Class names, for the titles.
    """
    checks.images(before)
    if not -len(before) <= index < len(before):
        raise ValueError(f"index: expected one of {len(before)} images, got {index}")
    image, changed = before[index], result.images[index]
    old, new = result.maps_before[index], result.maps[index]
    top = max(ceiling(old), ceiling(new))
    row = result.compare(k).iloc[index]

    figure, axes = panels(3, 2, extra_height=0.6)
    show_image(axes[0, 0], image, f"original: {data.class_name(classes, int(row.label))}")
    show_map(axes[0, 1], old, "its saliency map", top)
    show_change(axes[0, 2], image, changed)
    show_image(axes[1, 0], changed, f"perturbed: {data.class_name(classes, int(row.label_after))}")
    show_map(axes[1, 1], new, "its saliency map", top)
    show_top(axes[1, 2], old, new, k)
    figure.suptitle(
        f"{result.attack!r}, {result.method!r}, budget {result.eps * 255:g} of 255\n"
        f"top-{k:,} intersection {row.topk_intersection:.3f}, rank correlation {row.rank_correlation:.2f}, "
        f"centre shift {row.center_shift:.0f} pixels" + ("" if row.success else f" (failed: {result.reasons[index]})"),
        fontsize=10,
    )
    return figure


def exemplars(
    before: data.Batch, result: influence_attack.Result, train: data.Batch, index: int = 0, *, count: int = 3
) -> Figure:
    """Return the paper's figure of an attack on influence.

    The test image and its most influential training images, before and after, and below them all influences before
    against after, without the minus sign of the definition: helpful examples are on the right and at the top.

    Parameters
    ----------
    before : Batch
        The original images that were given to `influence_attack.run`.
    result : Result
        What it returned.
    train : Batch
        The training images.
    index : int
        Which image of the batch.
    count : int
        How many training images.
    """
    if not -len(before) <= index < len(before):
        raise ValueError(f"index: expected one of {len(before)} images, got {index}")
    rows = {"original": (before.images, result.scores_before), "perturbed": (result.images, result.scores)}
    side = WIDTH / (count + 1)
    layout = [[f"{row} {i}" for i in range(count + 1)] for row in rows] + [["influences"] * (count + 1)]
    size, heights = (WIDTH, 2 * (side + 0.4) + 3.2), (side + 0.4, side + 0.4, 3.2)
    figure, axes = plt.subplot_mosaic(layout, figsize=size, dpi=DPI, height_ratios=heights, layout="constrained")
    plt.close(figure)
    label = data.class_name(before.classes, int(result.labels[index]))
    tops = []
    for row, (images, scores) in rows.items():
        tops.append(influence.most(scores[index][None], count, result.attack.side)[0].tolist())
        confidence = (result.confidence_before if row == "original" else result.confidence)[index]
        show_image(axes[f"{row} 0"], images[index], f"{row}: {label}\n({confidence:.2%})")
        for place, i in enumerate(tops[-1], 1):
            show_image(axes[f"{row} {place}"], train.images[i], f"number {place}:\n{train.label_names[i]}")
    show_influences(axes["influences"], result.scores_before[index], result.scores[index], *tops)
    return figure


def show_influences(
    axes: Axes, before: Tensor, after: Tensor, top_before: Sequence[int] = (), top_after: Sequence[int] = ()
) -> None:
    """Draw the helpfulness (minus the influence) of each training example, before against after.

    The most influential examples are marked: before the attack with a blue ring, after it with an orange dot.
    """
    x, y = -before.cpu().numpy(), -after.cpu().numpy()
    axes.axhline(0, color="#bbbbbb", linewidth=0.8)
    axes.axvline(0, color="#bbbbbb", linewidth=0.8)
    axes.scatter(x, y, s=6, color="#777777", linewidths=0)
    rings = {"facecolors": "none", "edgecolors": BLUE, "linewidths": 2, "s": 110}
    for top, style, name in ((top_before, rings, "before"), (top_after, {"color": ORANGE, "s": 35}, "after")):
        if len(top):
            axes.scatter(x[list(top)], y[list(top)], label=f"top {len(top)} {name}", **style)
    correlation = influence.rank_correlation(before[None], after[None]).item()
    axes.set_title(f"rank correlation {correlation:.2f}", fontsize=10)
    axes.set(xlabel="helpfulness before", ylabel="helpfulness after")
    axes.ticklabel_format(scilimits=(-2, 3))
    if len(top_before) or len(top_after):
        axes.legend(fontsize=9, frameon=False, loc="best")


# --- The same as pixels, for what is not drawn by matplotlib ----------------------------------------------------------


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
