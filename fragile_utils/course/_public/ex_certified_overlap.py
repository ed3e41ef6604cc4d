"""Public tests of ex-certified-overlap. Written by `make exercises` from book/exercises."""

from statistics import NormalDist

import torch

from fragile_utils.course import same, true


def by_counting(shares, k, c, rho, sigma, factor=2, last=True, mirror=True):
    """The formula, pixel by pixel; the options leave out what is often left out."""
    normal, g = NormalDist(), sorted(shares.tolist(), reverse=True)
    count = 0
    for i in range(1, k + 1):
        low = min(max(g[i - 1] - c, 1e-300), 1 - 1e-16)
        moved = normal.cdf(normal.inv_cdf(low) - factor * rho / sigma)
        rival = g[2 * k - i] if mirror else g[k]
        count += moved - (c if last else 0) > rival
    return count


def compare(found, *given):
    true(found is not None, "got None; is there a return?")
    mistakes = {
        "this moves the share by rho / sigma; both images' shares move, so it is twice that": by_counting(
            *given, factor=1
        ),
        "this compares every pixel with the pixel K+1; the formula says 2K-i+1": by_counting(
            *given, mirror=False
        ),
        "the second c is missing: the rival's share is uncertain as well": by_counting(
            *given, last=False
        ),
    }
    same(
        float(found),
        float(by_counting(*given)),
        f"R at K = {given[1]}, c = {given[2]:.3g}, rho = {given[3]:.3g}, sigma = {given[4]:.3g}",
        mistakes=mistakes,
    )


FOUR = torch.tensor([0.05, 0.80, 0.30, 0.95], dtype=torch.float64)


def test_uncertain_on_both_sides(certified):
    """two pixels that lie closer than the two margins"""
    shares = torch.tensor([0.50, 0.43, 0.2, 0.1], dtype=torch.float64)
    given = shares, 1, 0.05, 0.0, 1.0
    compare(certified(*given), *given)


def test_four_pixels(certified):
    """the four pixels, at radii on both sides of those where the answer changes"""
    for rho in (0.0, 0.52, 0.54, 1.27, 1.29):
        compare(certified(FOUR, 2, 0.05, rho, 1.0), FOUR, 2, 0.05, rho, 1.0)


def test_only_the_ratio_counts(certified):
    """half the noise, half the radius"""
    given = FOUR, 2, 0.05, 0.35, 0.5
    compare(certified(*given), *given)
