"""Public tests of ex-permutation. Written by `make exercises` from book/exercises."""

import torch
from scipy.stats import permutation_test as of_scipy
from scipy.stats import rankdata, zscore

from fragile_utils.course import same, true


def columns(draw, count, mixed):
    """Two columns of which the second has a share of the first."""
    a = torch.rand(count, generator=draw).double()
    b = mixed * a + (1 - mixed) * torch.rand(count, generator=draw).double()
    return a, b


def by_scipy(a, b, alternative="two-sided"):
    a, b = (zscore(rankdata(v.numpy())) for v in (a, b))
    return of_scipy(
        (b,),
        lambda shuffled, axis: (a * shuffled).mean(axis),
        permutation_type="pairings",
        vectorized=True,
        n_resamples=4000,
        alternative=alternative,
        rng=1,
    ).pvalue


def compare(found, a, b, within=0.1):
    true(found is not None, "got None; is there a return?")
    p = float(found)
    true(0 <= p <= 1, f"expected a share between 0 and 1, got {p:.3g}")
    expected = by_scipy(a, b)
    mistakes = {
        "only one sign is counted here; compare magnitudes": by_scipy(
            a, b, "greater"
        ),
        "this is the other tail: count the correlations of the other sign as well": by_scipy(
            a, b, "less"
        ),
        "this is the share of smaller correlations; count those as large or larger": 1
        - expected,
        "this is 1: shuffle one column and leave the other, or the pairs stay together": 1,
    }
    same(p, expected, "the p-value", within=within, mistakes=mistakes)


def test_nothing_in_common(permutation_test):
    """two columns that have little in common"""
    draw = torch.Generator().manual_seed(5)
    a, b = columns(draw, 12, 0.25)
    compare(
        permutation_test(a, b, 4000, torch.Generator().manual_seed(1)), a, b
    )


def test_the_same_order(permutation_test):
    """a column and itself: no shuffle is larger, and yet p is not 0"""
    a = torch.arange(30).double()
    found = permutation_test(a, a**2, 999, torch.Generator().manual_seed(2))
    true(found is not None, "got None; is there a return?")
    same(
        float(found),
        0.001,
        "the p-value of the same order, with 999 shuffles",
        within=1e-9,
        mistakes={
            "the observed order is one of the shuffles: add 1 to count and draws": 0,
            "this is 1: shuffle one column and leave the other, or the pairs stay together": 1,
        },
    )


def test_opposite_orders(permutation_test):
    """the opposite order is as surprising as the same"""
    a = torch.arange(30).double()
    found = permutation_test(a, -a, 999, torch.Generator().manual_seed(3))
    true(found is not None, "got None; is there a return?")
    same(
        float(found),
        0.001,
        "the p-value of the opposite order, with 999 shuffles",
        within=1e-9,
        mistakes={"only one sign is counted here; compare magnitudes": 1},
    )
