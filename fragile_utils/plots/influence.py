"""The figure of one attack on influence."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from fragile_utils import data, influence
from fragile_utils.plots.maps import BLUE, DPI, ORANGE, WIDTH, show_image


def exemplars(
    before: data.Batch, result: influence.InfluenceResult, train: data.Batch, index: int = 0, *, count: int = 3
) -> Figure:
    """Return the paper's figure of an attack on influence.

    The test image and its most influential training images, before and after, and below them all influences before
    against after, without the minus sign of the definition: helpful examples are on the right and at the top.

    Parameters
    ----------
    before : Batch
        The original images that were given to `influence.run`.
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
