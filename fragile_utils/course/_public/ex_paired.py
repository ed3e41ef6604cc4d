"""Public tests of ex-paired. Written by `make exercises` from book/exercises."""

import torch
from scipy.stats import bootstrap

from fragile_utils.course import same, true


def two_methods(draw, count=30):
    """Values that differ a lot between images and little between methods, with two failures in each."""
    image = torch.rand(count, generator=draw).double()
    a = image + 0.05 + 0.02 * torch.randn(count, generator=draw).double()
    b = image + 0.02 * torch.randn(count, generator=draw).double()
    a[[2, 11]], b[[5, 11]] = torch.nan, torch.nan
    return a, b


def compare(found, a, b):
    true(found is not None, "got None; is there a return?")
    true(
        len(found) == 4,
        f"expected (mean, low, high, count), got {len(found)} values",
    )
    mean, low, high, count = (float(value) for value in found)
    true(
        mean == mean,
        "NaN: leave out the images on which either attack failed",
    )
    both = ~(a.isnan() | b.isnan())
    mistakes = {
        "these are all images; those on which either attack failed do not count": len(
            a
        ),
        "this counts the images that are left out; return how many remain": int(
            (~both).sum()
        ),
    }
    same(count, int(both.sum()), "the count", mistakes=mistakes)
    difference = (a - b)[both]
    mistakes = {
        "the means of a and b are over different images: leave an image out for both": a.nanmean()
        - b.nanmean(),
        "a failure counts as zero here; leave the image out": (
            a.nan_to_num() - b.nan_to_num()
        ).mean(),
        "this is b - a": -difference.mean(),
        "this is the mean of absolute differences": difference.abs().mean(),
    }
    same(
        mean,
        difference.mean(),
        "the mean of a - b",
        within=1e-9,
        mistakes=mistakes,
    )
    theirs = bootstrap(
        (difference.numpy(),),
        lambda x, axis: x.mean(axis),
        n_resamples=4000,
        method="percentile",
        rng=1,
    ).confidence_interval
    width, expected = high - low, theirs.high - theirs.low
    true(
        width < 2 * expected,
        f"the interval is {width / expected:.1f} times as wide as it should be: draw images, with both of their values, "
        "not the values of each method by themselves",
    )
    same([low, high], [theirs.low, theirs.high], "the interval", within=0.1)


def test_two_methods(paired):
    """thirty images, with failures"""
    a, b = two_methods(torch.Generator().manual_seed(1))
    compare(paired(a, b, 4000, torch.Generator().manual_seed(2)), a, b)


def test_a_method_and_itself(paired):
    """a method differs from itself by nothing, and that is certain"""
    a, _ = two_methods(torch.Generator().manual_seed(3))
    found = paired(a, a.clone(), 500, torch.Generator().manual_seed(4))
    true(found is not None, "got None; is there a return?")
    expected = [0, 0, 0, 28]
    same(
        [float(v) for v in found],
        expected,
        "a method compared with itself (draw images, with both values)",
    )
