"""What is certified of votes: against counting one by one, the binomial distribution, and attacks."""

import math

import pytest
import torch
from defended import DEFENDED, attacked_and_random
from scipy import stats

from fragile_utils import defences
from fragile_utils.defences import Votes


def votes(seed=0, shape=(3, 4, 5), samples=400, sigma=0.5):
    """Counts of all sizes, many near none and all."""
    generator = torch.Generator().manual_seed(seed)
    shares = torch.sigmoid(8 * torch.randn(shape, generator=generator))
    return Votes((shares * samples).round().long(), samples, sigma)


def counted(shares, k, rho, sigma, samples, confidence):
    """R(K) of one image, pixel by pixel, as the paper writes it."""
    ordered = sorted(shares.flatten().tolist(), reverse=True)
    c = math.sqrt(math.log(2 * len(ordered) / (1 - confidence)) / (2 * samples))
    found = 0
    for i in range(1, k + 1):
        low = max(ordered[i - 1] - c, 0.0)
        shifted = stats.norm.cdf(stats.norm.ppf(low) - 2 * rho / sigma)
        found += shifted - c > ordered[2 * k - i + 1 - 1]
    return found


@pytest.mark.parametrize("rho", [0.0, 0.05, 0.2, 0.5])
@pytest.mark.parametrize("k", [1, 4, 10])
def test_the_certified_overlap_is_the_paper_s_count(k, rho):
    given = votes()
    expected = [counted(shares, k, rho, 0.5, 400, 0.95) for shares in given.shares]
    assert defences.certified_overlap(given, k, rho).tolist() == expected
    if k == 10 and rho < 0.5:
        assert max(expected) > 0


def brute_force(low, high, k, rho, sigma):
    """The smallest overlap of all orders of the pixels that the bounds on their shares allow."""
    from itertools import combinations

    before = set(sorted(range(len(low)), key=lambda i: -low[i])[:k])
    least = [stats.norm.cdf(stats.norm.ppf(p) - rho / sigma) for p in low]
    most = [stats.norm.cdf(stats.norm.ppf(p) + rho / sigma) for p in high]
    smallest = k
    for after in combinations(range(len(low)), k):
        rest = set(range(len(low))) - set(after)
        if all(most[i] >= least[j] for i in after for j in rest):  # nothing left out is surely above one that is in
            smallest = min(smallest, len(before & set(after)))
    return smallest


@pytest.mark.parametrize("seed", range(6))
def test_no_order_of_the_pixels_that_the_bounds_allow_has_less_in_common(seed):
    given = votes(seed, shape=(1, 2, 4), samples=1000)
    for k, rho in [(1, 0.02), (2, 0.05), (3, 0.1), (4, 0.1)]:
        low, high = defences.share_bounds(given, 0.05 / 16, "clopper-pearson")
        truth = brute_force(low.flatten().tolist(), high.flatten().tolist(), k, rho, 0.5)
        got = defences.certified_overlap(given, k, rho, bound="clopper-pearson").item()
        assert got <= truth
        assert truth == 0 or got > 0 or k > 1


def test_a_certificate_by_hand_on_four_pixels():
    given = Votes(torch.tensor([[[1000, 900], [100, 0]]]), 1000, sigma=1.0)
    c = math.sqrt(math.log(8 / 0.05) / 2000)  # 0.0504
    assert c == pytest.approx(0.0504, abs=1e-4)
    # K = 1: the first pixel against the second: Phi(Phi^-1(0.9496) - 2 rho) - 0.0504 > 0.9 up to rho = 0
    assert defences.certified_overlap(given, 1, 0.0).item() == 0
    # K = 2: the first against the fourth, the second against the third: Phi(Phi^-1(0.8496) - 2 rho) > 0.1504
    radius = (stats.norm.ppf(0.9 - c) - stats.norm.ppf(0.1 + c)) / 2
    assert defences.certified_overlap(given, 2, radius - 1e-6).item() == 2
    assert defences.certified_overlap(given, 2, radius + 1e-6).item() == 1


def test_nothing_is_certified_beyond_the_largest_radius():
    best = Votes(torch.tensor([[[500, 500], [0, 0]]]), 500, sigma=0.3)
    radius = defences.largest_radius(500, 4, 0.3)
    assert defences.certified_overlap(best, 2, radius - 1e-6).item() == 2
    assert defences.certified_overlap(best, 2, radius + 1e-6).item() == 0
    assert defences.largest_radius(8192, 3 * 32 * 32, 1.0) == pytest.approx(1.93, abs=0.005)
    assert defences.largest_radius(8192, 3 * 224 * 224, 1.0) == pytest.approx(1.87, abs=0.005)
    assert defences.largest_radius(2, 10**6, 1.0) == 0


def test_by_exact_bounds_the_largest_radius_is_the_one_that_is_said():
    """sigma Phi^-1(e^(1 / q)), with e = (1 - eta) / (2 d); it is more than Hoeffding's."""
    best = Votes(torch.tensor([[[500, 500], [0, 0]]]), 500, sigma=0.3)
    radius = 0.3 * stats.norm.ppf((0.05 / 8) ** (1 / 500))
    assert radius > defences.largest_radius(500, 4, 0.3)
    for change, expected in ((-1e-6, 2), (1e-6, 0)):
        assert defences.certified_overlap(best, 2, radius + change, bound="clopper-pearson").item() == expected


def test_a_counted_perturbed_map_costs_a_margin():
    given = votes()
    exact = defences.certified_overlap(given, 10, 0.05)
    counts = [defences.certified_overlap(given, 10, 0.05, perturbed_samples=n) for n in (100, 1000, 10**9)]
    assert (counts[0] <= counts[1]).all()
    assert (counts[1] <= counts[2]).all()
    assert (counts[2] <= exact).all()
    assert counts[0].sum() < exact.sum()


@pytest.mark.parametrize("bound", ["hoeffding", "clopper-pearson"])
@pytest.mark.parametrize("share", [0.0, 0.003, 0.3, 0.98, 1.0])
def test_bounds_fail_no_more_often_than_they_say(bound, share):
    samples, error = 200, 0.05
    low, high = defences.share_bounds(Votes(torch.arange(samples + 1), samples, 1.0), error, bound)
    chance = stats.binom.pmf(range(samples + 1), samples, share)  # exact: of each count
    assert chance[(low > share).numpy()].sum() <= error
    assert chance[(high < share).numpy()].sum() <= error


def test_exact_bounds_are_those_of_scipy():
    low, high = defences.share_bounds(Votes(torch.arange(51), 50, 1.0), 0.01, "clopper-pearson")
    for count in range(51):
        interval = stats.binomtest(count, 50).proportion_ci(0.98, "exact")
        assert (low[count].item(), high[count].item()) == pytest.approx((interval.low, interval.high), abs=1e-9)


def test_pixels_are_certified_where_the_binomial_test_says_so():
    given = votes(samples=100)
    certain = defences.certify_pixels(given, tau=0.75, alpha=0.01)
    level = 0.01 / (2 * 20)
    for count, got in zip(given.counts.flatten().tolist(), certain.flatten().tolist(), strict=True):
        inside = stats.binomtest(count, 100, 0.75, "greater").pvalue < level
        outside = stats.binomtest(100 - count, 100, 0.75, "greater").pvalue < level
        assert got == (1 if inside else 0 if outside else defences.ABSTAINED)
    assert {*certain.flatten().tolist()} == {0, 1, defences.ABSTAINED}
    assert defences.pixel_radius(0.15, 0.75) == pytest.approx(0.101, abs=5e-4)  # the paper's


@pytest.fixture(scope="module")
def perturbed():
    """A network, three images with their votes, and 1,000 images within rho of each of them, attacked and random."""
    return attacked_and_random(count=1000, rho=DEFENDED["rho"])


@pytest.mark.slow
def test_no_perturbation_within_the_radius_falls_below_the_certificate(perturbed):
    given, k, rho = perturbed.votes, DEFENDED["k"], DEFENDED["rho"]
    assert max(distance for distance in perturbed.distances) <= rho * (1 + 1e-5)
    certified = defences.certified_overlap(given, k, rho, bound="clopper-pearson", perturbed_samples=given.samples)
    assert (certified > 0).all(), "a certificate of nothing cannot be violated"
    top = given.counts.flatten(1).topk(k, dim=1).indices
    smallest = torch.full((len(top),), k)
    for counts in perturbed.counts:
        after = counts.flatten(1).topk(k, dim=1).indices
        shared = torch.tensor([len({*a.tolist()} & {*b.tolist()}) for a, b in zip(top, after, strict=True)])
        smallest = smallest.minimum(shared)
    assert (smallest >= certified).all()
    assert (smallest < k).any(), "something moved"


@pytest.mark.slow
def test_no_perturbation_within_the_radius_overturns_a_certified_pixel(perturbed):
    tau = 0.75
    certain = defences.certify_pixels(perturbed.votes, tau, alpha=0.01)
    assert defences.pixel_radius(perturbed.votes.sigma, tau) >= DEFENDED["rho"]
    assert (certain >= 0).any()
    for counts in perturbed.counts:
        shares = counts.double() / perturbed.votes.samples
        assert not (defences.certify_pixels(Votes(counts, perturbed.votes.samples, 1), 0.5, 0.01) == 1 - certain).any()
        assert shares[certain == 1].min() > 0.4
        assert shares[certain == 0].max() < 0.6


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda v: defences.certified_overlap(v, 11, 0.1), "k: expected a whole number from 1 to 10"),
        (lambda v: defences.certified_overlap(v, 2, -0.1), "rho: expected a number, 0 or above"),
        (lambda v: defences.certified_overlap(v, 2, 0.1, 1.0), "confidence: expected a number above 0 and below 1"),
        (lambda v: defences.certified_overlap(v, 2, 0.1, bound="wald"), "bound: expected 'hoeffding'"),
        (lambda v: defences.certify_pixels(v, 0.4), "tau: expected a number from 0.5 to below 1"),
        (lambda v: defences.pixel_radius(1.0, 1.0), "tau: expected"),
        (lambda v: defences.share_bounds(v, 1.5), "error: expected a number above 0 and below 1"),
        (lambda v: Votes(v.counts + 1, v.samples, 0.5), r"counts: expected .* from 0 to 400, got some from \d+ to 401"),
        (lambda v: Votes(-v.counts, v.samples, 0.5), "counts: .* got some from -400 to 0"),
        (lambda v: Votes(v.counts / 2, v.samples, 0.5), "counts: .* got dtype torch.float32"),
        (lambda v: Votes([[[1]]], 1, 0.5), "counts: .* got list"),
        (lambda v: Votes(v.counts, 0, 0.5), "samples: expected a whole number"),
        (lambda v: Votes(v.counts, 400, 0.0), "sigma: expected a number above 0"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(votes())


def test_only_hard_votes_are_counted(tiny, tiny_batch):
    from fragile_utils.saliency import SmoothGrad

    for method in (SmoothGrad(samples=3), defences.sparsified_smoothgrad(samples=3).guide()):
        with pytest.raises(ValueError, match="method: expected a sparsified_smoothgrad with hard votes"):
            defences.count_votes(method, tiny, *tiny_batch)
