"""The figure of one attack on a saliency map."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from torch import Tensor

from fragile_utils import attacks, data
from fragile_utils._base import checks
from fragile_utils.plots.maps import ceiling, panels, show_change, show_image, show_map, show_top


def before_after(
    before: Tensor, result: attacks.MapResult, index: int = 0, *, k: int, classes: Sequence[str] = ()
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

    title = [
        f"{result.attack!r}, {result.method!r}, budget {result.eps * 255:g} of 255",
        f"top-{k:,} intersection {row.topk_intersection:.3f}, rank correlation {row.rank_correlation:.2f}, "
        f"centre shift {row.center_shift:.0f} pixels",
    ]
    if not row.success:
        title.append(f"failed: {result.reasons[index]}; the original is shown")
    figure, axes = panels(3, 2, extra_height=0.2 + 0.2 * len(title))
    show_image(axes[0, 0], image, f"original: {data.class_name(classes, int(row.label))}")
    show_map(axes[0, 1], old, "its saliency map", top)
    show_change(axes[0, 2], image, changed)
    what = "perturbed" if row.success else "not perturbed"
    show_image(axes[1, 0], changed, f"{what}: {data.class_name(classes, int(row.label_after))}")
    show_map(axes[1, 1], new, "its saliency map", top)
    show_top(axes[1, 2], old, new, k)
    figure.suptitle("\n".join(title), fontsize=10)
    return figure
