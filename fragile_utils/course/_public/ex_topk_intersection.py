"""Public tests of ex-topk-intersection. Written by `make exercises` from book/exercises."""

import torch

from fragile_utils.course import same


def two_batches(draw, count=4, height=5, width=6):
    """Maps without ties, so that it is certain which pixels are on top."""
    orders = [
        torch.randperm(height * width, generator=draw)
        for _ in range(2 * count)
    ]
    maps = torch.stack(orders).double().view(2, count, height, width) + 1
    return maps[0], (maps[1] + 1.5 * maps[0])


def tops(maps, k):
    return [
        set(
            sorted(
                range(m.numel()), key=lambda i, m=m: -m.flatten()[i].item()
            )[:k]
        )
        for m in maps
    ]


def compare(found, before, after, k):
    pairs = list(zip(tops(before, k), tops(after, k), strict=True))
    lows = list(zip(tops(-before, k), tops(-after, k), strict=True))
    shared = torch.tensor([len(a & b) for a, b in pairs])
    unions = torch.tensor([len(a | b) for a, b in pairs])
    limits = before.flatten(1).topk(k).values[:, -1, None]
    first, second = (m.flatten(1).topk(k).indices for m in (before, after))
    above = (before.flatten(1) >= limits) & (after.flatten(1) >= limits)
    mistakes = {
        "the second map has a top of its own; this asks which of its pixels are above the first map's threshold": above.sum(
            1
        )
        / k,
        "this counts the shared pixels; divide by k": shared,
        "this compares place by place; a pixel may be first in one top and fifth in the other": (
            first == second
        )
        .double()
        .mean(1),
        "this asks whether a pixel is in the top of any of the maps; ask each pair by itself": torch.isin(
            first, second
        )
        .double()
        .mean(1),
        "no pixel is shared: does a set hold tensors? They are compared as objects; tolist() makes numbers": 0
        * shared,
        "this divides by all pixels of the map; divide by k": shared
        / before[0].numel(),
        "this divides by the union of both sets; divide by k": shared
        / unions,
        "these are the darkest pixels, not the brightest": torch.tensor(
            [len(a & b) for a, b in lows]
        )
        / k,
        "one number for each image is wanted; this is their mean": shared.double().mean()
        / k,
    }
    same(
        found,
        shared / k,
        f"the intersections for k = {k}",
        mistakes=mistakes,
    )


def test_four_pairs(topk_intersection):
    """four pairs of maps, against sets"""
    before, after = two_batches(torch.Generator().manual_seed(3))
    compare(topk_intersection(before, after, 8), before, after, 8)


def test_the_scale_of_a_map_does_not_matter(topk_intersection):
    """the second map may be dimmer than the first as a whole: it has a top of its own"""
    before, after = two_batches(torch.Generator().manual_seed(4))
    found = topk_intersection(before, after / 1000, 8)
    same(
        found,
        topk_intersection(before, after, 8),
        "with the second maps divided by 1,000 (a top of their own)",
    )
