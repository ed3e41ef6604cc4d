"""Public tests of ex-spearman. Written by `make exercises` from book/exercises."""

import torch
from scipy.stats import rankdata, spearmanr

from fragile_utils.course import same


def two_maps(draw, levels):
    """Two related maps with values of a few levels: the fewer levels, the more ties."""
    first = torch.randint(levels, (6, 7), generator=draw).double()
    second = (first + torch.randint(levels, (6, 7), generator=draw)) ** 3
    return first, second


def pearson(a, b):
    a, b = a - a.mean(), b - b.mean()
    return (a * b).sum() / (a.norm() * b.norm())


def order(m):
    return m.flatten().argsort(stable=True).double()


def places(m):
    return m.flatten().argsort(stable=True).argsort(stable=True).double()


def compare(found, before, after, what):
    expected = spearmanr(
        before.flatten().numpy(), after.flatten().numpy()
    ).statistic
    a, b = (
        torch.from_numpy(rankdata(m.flatten())) for m in (before, after)
    )
    n = len(a)
    mistakes = {
        "the formula with squared differences of ranks holds without ties only": 1
        - 6 * (a - b).square().sum() / (n * (n**2 - 1)),
        "this is the correlation of the values; take that of their ranks": pearson(
            before.flatten(), after.flatten()
        ),
        "argsort gives the places in the order, not the ranks: apply it twice": pearson(
            order(before), order(after)
        ),
        "equal values have to share the mean of their ranks": pearson(
            places(before), places(after)
        ),
        "the ranks are not centred: subtract their mean": torch.cosine_similarity(
            a, b, 0
        ),
    }
    same(found, expected, what, within=1e-5, mistakes=mistakes)


def test_without_ties(spearman):
    """two maps in which no value occurs twice"""
    draw = torch.Generator().manual_seed(5)
    before = torch.rand(5, 6, generator=draw).double()
    after = before**4 + 0.2 * torch.rand(5, 6, generator=draw).double()
    compare(spearman(before, after), before, after, "without ties")


def test_with_ties(spearman):
    """two maps with many ties, against SciPy"""
    before, after = two_maps(torch.Generator().manual_seed(6), levels=4)
    compare(spearman(before, after), before, after, "with ties")
