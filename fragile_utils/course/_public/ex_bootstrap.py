"""Public tests of ex-bootstrap. Written by `make exercises` from book/exercises."""

import torch
from scipy.stats import binom, bootstrap

from fragile_utils.course import same, true


def of_coins(heads, flips):
    """Ones and zeros, whose bootstrap means have a known distribution: binomial."""
    return torch.tensor([1.0] * heads + [0.0] * (flips - heads)).double()


def bounds(found):
    true(found is not None, "got None; is there a return?")
    true(len(found) == 2, f"expected two bounds, got {len(found)}")
    return torch.stack([torch.as_tensor(b).double() for b in found])


def compare(found, values):
    """Against the exact distribution; the draws cost about 0.01."""
    n, p = len(values), values.mean().item()
    exact = torch.tensor([binom.ppf(q, n, p) / n for q in (0.025, 0.975)])
    deviation = values.std(unbiased=False)
    one = torch.tensor([-1.0, 1.0])
    mistakes = {
        "these are quantiles of the values, not of means": values.quantile(
            torch.tensor([0.025, 0.975]).double()
        ),
        "the bounds have no distance: draw with replacement, or each draw has the same mean": p
        + 0 * one,
        "this is the mean plus and minus two deviations of a single value; a mean of n values varies less": p
        + 1.96 * deviation * one,
        "this is the mean plus and minus one standard error, an interval of 68 %": p
        + deviation / n**0.5 * one,
        "this is an interval of 90 %: cut off 2.5 % on either side": [
            binom.ppf(q, n, p) / n for q in (0.05, 0.95)
        ],
        "the two bounds are exchanged": exact.flip(0),
    }
    same(
        bounds(found),
        exact,
        f"the interval of {n} values",
        within=1.2 / (n * exact[1].item()),
        mistakes=mistakes,
    )


def test_coins(bootstrap_interval):
    """ones and zeros, whose bootstrap distribution is known"""
    values = of_coins(heads=33, flips=100)
    found = bootstrap_interval(
        values, 4000, torch.Generator().manual_seed(1)
    )
    compare(found, values)


def test_the_seed(bootstrap_interval):
    """the same generator gives the same interval"""
    values = torch.rand(
        20, generator=torch.Generator().manual_seed(2)
    ).double()
    torch.manual_seed(1)
    first = bounds(
        bootstrap_interval(values, 200, torch.Generator().manual_seed(3))
    )
    torch.manual_seed(2)
    again = bounds(
        bootstrap_interval(values, 200, torch.Generator().manual_seed(3))
    )
    same(
        again,
        first,
        "the interval with the same generator, again (draw from the generator that is given)",
    )
