"""How much two saliency maps differ: the paper's three measures, batched, on the maps' device.

Each takes two batches of maps (N, H, W), non-negative, and gives one number for each image. Maps may be of any
floating-point type: what is counted, and where a centre lies, is computed in float32 at least.
"""

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from fragile_utils._base import checks, schema

MEASURES = {  # the columns of `compare`, and what figures and tables call them
    "topk_intersection": "top-k intersection",
    "rank_correlation": "rank correlation",
    "center_shift": "centre shift (pixels)",
}


def topk_intersection(before: Tensor, after: Tensor, k: int) -> Tensor:
    """Return the share (N,) of the `k` most salient pixels of `before` that are among the `k` most salient of `after`.

    Between equal values at the threshold, which pixel counts is arbitrary but the same on each call.
    """
    checks.same_shape(checks.maps(before, "before"), checks.maps(after, "after"))
    checks.count(k, "k", at_most=before[0].numel())
    shared = top_mask(before, k) & top_mask(after, k)
    return _share(shared.sum(dim=(1, 2)), k, before.dtype)


def local_topk_intersection(before: Tensor, after: Tensor, k: int, radius: int) -> Tensor:
    """Return the intersection (N,) of the `k` most salient pixels of two maps, up to a move by `radius` pixels.

    `topk_intersection` counts a map that moves by one pixel as lost. Here a pixel is found again if the other map has
    one of its `k` most salient within `radius` rows and columns: in the square of (2 radius + 1)^2 pixels around it, as
    far as that is in the image. Of both shares, that of the pixels of `before` found again in `after` and that of the
    pixels of `after` found in `before`, the smaller counts. Each alone is 1 for a map of scattered pixels which has one
    near each pixel of a compact other, though most of it is elsewhere.

    The measure is symmetric, lies in [0, 1], does not fall as the radius grows, and for radius 0 it is
    `topk_intersection`. Maps that have nothing to do with each other reach more the larger the radius: compare with
    such maps.

    Parameters
    ----------
    before, after : Tensor (N, H, W)
    k : int
    radius : int
        In pixels, from 0 on.

    References
    ----------
    Kamath et al., *Rethinking Robustness of Model Attributions*, AAAI 2024, arXiv:2312.10534: both shares apart, as
    w-LENS-recall@k and w-LENS-prec@k, for w the radius.
    """
    checks.same_shape(checks.maps(before, "before"), checks.maps(after, "after"))
    checks.count(k, "k", at_most=before[0].numel())
    schema.whole(radius, "radius", low=0)
    masks = top_mask(before, k), top_mask(after, k)
    near = [_dilated(mask, min(radius, max(mask.shape[1:]))) for mask in masks]
    shares = [(mask & other).sum(dim=(1, 2)) for mask, other in zip(masks, reversed(near), strict=True)]
    return _share(torch.minimum(*shares), k, before.dtype)


def rank_correlation(before: Tensor, after: Tensor) -> Tensor:
    """Return Spearman's rank correlation (N,) of the pixels of two maps; tied pixels share their average rank.

    NaN where a map is constant: it ranks nothing.
    """
    checks.same_shape(checks.maps(before, "before"), checks.maps(after, "after"))
    return spearman(before.flatten(1), after.flatten(1))


def mass_center(maps: Tensor) -> Tensor:
    """Return the centre of mass (N, 2) of each map as (row, column), in pixels, not rounded.

    In float32 for maps of half precision, which holds no such places. NaN where a map is zero everywhere.
    """
    checks.maps(maps)
    return center_of_mass(maps)


def center_shift(before: Tensor, after: Tensor) -> Tensor:
    """Return the Euclidean distance (N,), in pixels, between the centres of mass of two maps."""
    checks.same_shape(checks.maps(before, "before"), checks.maps(after, "after"))
    return (center_of_mass(after) - center_of_mass(before)).norm(dim=1)


def compare(before: Tensor, after: Tensor, k: int) -> pd.DataFrame:
    """Return the three measures as a table with one row for each image.

    Columns: ``topk_intersection`` (share), ``rank_correlation``, ``center_shift`` (pixels).
    """
    measures = {
        "topk_intersection": topk_intersection(before, after, k),
        "rank_correlation": rank_correlation(before, after),
        "center_shift": center_shift(before, after),
    }
    return pd.DataFrame({name: values.detach().cpu().double().numpy() for name, values in measures.items()})


def default_k(height: int, width: int) -> int:
    """Return how many pixels count as most salient by default: the paper's 1,000; 100 on images of under 10,000.

    At most a quarter of the pixels: of all of them, none would be more salient than the others.
    """
    pixels = height * width
    return 1000 if pixels >= 100 * 100 else max(1, min(100, pixels // 4))


# --- Pieces that others share: differentiable where that means something, and unchecked ------------------------------


def spearman(before: Tensor, after: Tensor) -> Tensor:
    """Return the rank correlation (N,) of the rows of two matrices (N, P); ties share their average rank."""
    a, b = _centred_ranks(before), _centred_ranks(after)
    correlation = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))
    return correlation.clamp(-1, 1).to(before.dtype)


def top_mask(maps: Tensor, k: int) -> Tensor:
    """Return a boolean mask (N, H, W) of the `k` most salient pixels of each map."""
    top = maps.flatten(1).topk(k, dim=1).indices
    mask = torch.zeros_like(maps, dtype=torch.bool).flatten(1)
    return mask.scatter_(1, top, True).view_as(maps)


def _exact(dtype: torch.dtype) -> torch.dtype:
    """Return a type that holds places and numbers of pixels: not half precision, nor bfloat16."""
    return torch.promote_types(dtype, torch.float32)


def _share(counts: Tensor, k: int, dtype: torch.dtype) -> Tensor:
    """Return counts (N,) as shares of `k`, of this type."""
    return (counts.to(_exact(dtype)) / k).to(dtype)


def _dilated(mask: Tensor, radius: int) -> Tensor:
    """Return where a mask (N, H, W) is true within `radius` rows and columns."""
    columns = F.max_pool2d(mask[:, None].float(), (2 * radius + 1, 1), 1, (radius, 0))
    return F.max_pool2d(columns, (1, 2 * radius + 1), 1, (0, radius))[:, 0].bool()


def center_of_mass(maps: Tensor) -> Tensor:
    """Return the centre of mass (N, 2) of each map as (row, column), in pixels, of float32 at least."""
    maps = maps.to(_exact(maps.dtype))
    _, height, width = maps.shape
    rows = torch.arange(height, device=maps.device, dtype=maps.dtype)
    columns = torch.arange(width, device=maps.device, dtype=maps.dtype)
    moments = torch.stack([maps.sum(2) @ rows, maps.sum(1) @ columns], dim=1)
    return moments / maps.sum(dim=(1, 2))[:, None]


def _centred_ranks(values: Tensor) -> Tensor:
    """Return the ranks (N, P), averaged over ties, minus their mean."""
    ordered, places = values.detach().sort(dim=1)
    tied = torch.zeros_like(places)  # which group of equal values each place of the order belongs to
    tied[:, 1:] = (ordered[:, 1:] != ordered[:, :-1]).cumsum(dim=1)
    sizes = torch.zeros_like(places).scatter_add_(1, tied, torch.ones_like(places))
    first = sizes.cumsum(dim=1) - sizes
    exact = torch.float32 if values.device.type == "mps" else torch.float64
    ranks = (2 * first + sizes - values.shape[1]).gather(1, tied).to(exact) / 2
    return torch.empty_like(ranks).scatter_(1, places, ranks)
