"""What can be proved of a vote over noisy copies: how it may change within an L2 ball around the image.

If a pixel gets the vote of a share p of all noisy copies of x, then at x + d, with |d|_2 <= rho, it gets that of a
share from Phi(Phi^-1(p) - rho / sigma) to Phi(Phi^-1(p) + rho / sigma), whatever the network and the method. What is
known of p is a count over finitely many copies, and a bound that holds with a probability.
"""

import math
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Literal

import torch
from scipy.special import betaincinv
from torch import Tensor, nn

from fragile_utils._base import checks
from fragile_utils.defences.sparsified import TopShare
from fragile_utils.saliency import SmoothGrad

ABSTAINED = -1


@dataclass(frozen=True, eq=False)
class Votes:
    """In how many of the noisy copies of an image each pixel was among the most salient.

    Attributes
    ----------
    counts : Tensor (N, H, W), int64
        From 0 to `samples`.
    samples : int
        How many copies there were.
    sigma : float
        Standard deviation of their noise, in units of images in [0, 1].

    Raises
    ------
    ValueError
        If a value is not as described.
    """

    counts: Tensor = field(repr=False)
    samples: int
    sigma: float

    def __post_init__(self) -> None:
        checks.count(self.samples, "samples")
        checks.positive(self.sigma, "sigma")
        expected = f"counts: expected a tensor (N, H, W) of int64, from 0 to {self.samples}"
        if not isinstance(self.counts, Tensor) or self.counts.numel() == 0:
            raise ValueError(f"{expected}, got {checks.described(self.counts)}")
        if self.counts.dtype != torch.int64:
            raise ValueError(f"{expected}, got dtype {self.counts.dtype}")
        low, high = (value.item() for value in self.counts.aminmax())
        if low < 0 or high > self.samples:
            raise ValueError(f"{expected}, got some from {low} to {high}")

    @property
    def shares(self) -> Tensor:
        """The shares (N, H, W) of copies, float64."""
        return self.counts.double() / self.samples


def count_votes(method: SmoothGrad, model: nn.Module, images: Tensor, targets: Tensor) -> Votes:
    """Count the votes of noisy copies.

    Parameters
    ----------
    method : SmoothGrad
        Of a hard `TopShare`, as `sparsified_smoothgrad` makes it.
    model, images, targets
        As for any method.

    Raises
    ------
    ValueError
        If the method is of another kind, or an argument is not as described.
    """
    if not (isinstance(method, SmoothGrad) and isinstance(method.method, TopShare) and not method.method.temperature):
        raise ValueError(f"method: expected a sparsified_smoothgrad with hard votes, got {method}")
    mean = method.attribute(model, images, targets).sum(dim=1).double()
    return Votes((mean * method.samples).round().long(), method.samples, method.sigma)


def share_bounds(votes: Votes, error: float, bound: str = "hoeffding") -> tuple[Tensor, Tensor]:
    """Return bounds (N, H, W), float64, of the share of all noisy copies: each holds with probability 1 - `error`.

    Parameters
    ----------
    votes : Votes
    error : float
        Of a single pixel and side.
    bound : {"hoeffding", "clopper-pearson"}
        The count's share plus and minus sqrt(ln(1 / error) / (2 q)), not cut off at 0 and 1; or the exact binomial
        bounds, which are tighter, near 0 and 1 above all.

    References
    ----------
    Hoeffding, *Probability Inequalities for Sums of Bounded Random Variables*, JASA 58, 1963, theorem 1. Clopper,
    Pearson, *The use of confidence or fiducial limits*, Biometrika 26, 1934.
    """
    checks.positive(error, "error", below=1)
    if bound == "hoeffding":
        margin = math.sqrt(math.log(1 / error) / (2 * votes.samples))
        return votes.shares - margin, votes.shares + margin
    if bound != "clopper-pearson":
        raise ValueError(f"bound: expected 'hoeffding' or 'clopper-pearson', got {bound!r}")
    counts = torch.arange(votes.samples + 1, dtype=torch.float64).numpy()  # there are few of them, and many pixels
    low = torch.from_numpy(betaincinv(counts, votes.samples - counts + 1, error)).nan_to_num(0)
    high = torch.from_numpy(betaincinv(counts + 1, votes.samples - counts, 1 - error)).nan_to_num(1)
    return low.to(votes.counts.device)[votes.counts], high.to(votes.counts.device)[votes.counts]


def certified_overlap(
    votes: Votes,
    k: int,
    rho: float,
    confidence: float = 0.95,
    bound: Literal["hoeffding", "clopper-pearson"] = "hoeffding",
    perturbed_samples: int | None = None,
) -> Tensor:
    """Return R(K) (N,): how many of the `k` most salient pixels surely stay among them, within an L2 ball.

    R(K) = #{i <= K : Phi(Phi^-1(g_(i) - c) - 2 rho / sigma) - c > g_(2K-i+1)}, with g_(1) >= g_(2) >= ... the shares of
    votes and c = sqrt(ln(2 d / (1 - eta)) / (2 q)). Where it holds for i, none of the first i pixels can fall behind
    the pixel 2K-i+1 or a later one. If one of them leaves the K most salient, all of those are among the first 2K-i, at
    most K-i of which were not among the first K: at least i stay.

    It compares the K pixels with most votes among the `samples` copies of the image with those of the perturbed image
    over all noisy copies that there are; of one image, it holds with probability eta for all perturbations at once.

    Parameters
    ----------
    votes : Votes
    k : int
        K: at most half the number of pixels.
    rho : float
        Radius of the ball in L2, over all pixels and channels, in units of images in [0, 1].
    confidence : float
        eta: with which probability the bound holds.
    bound : {"hoeffding", "clopper-pearson"}
        The paper's, with c; or exact binomial bounds of the same confidence in its place.
    perturbed_samples : int, optional
        The votes of the perturbed image are themselves counted over so many copies, rather than known. Their margin is
        added, and the confidence is that of both counts together, for one perturbation.

    Raises
    ------
    ValueError
        If an argument is not as described.

    References
    ----------
    Levine, Singla, Feizi, *Certifiably Robust Interpretation in Deep Learning*, 2019, arXiv:1905.12105, section 3.
    """
    pixels = votes.counts[0].numel()
    checks.count(k, "k", at_most=pixels // 2)
    checks.non_negative(rho, "rho")
    error = _error(confidence)
    margin = 0.0
    if perturbed_samples is not None:
        checks.count(perturbed_samples, "perturbed_samples")
        error /= 2
        margin = 2 * math.sqrt(math.log(2 * pixels / error) / (2 * perturbed_samples))
    low, high = share_bounds(votes, error / (2 * pixels), bound)
    low = low.flatten(1).sort(dim=1, descending=True).values[:, :k]
    high = high.flatten(1).sort(dim=1, descending=True).values[:, k : 2 * k].flip(1)  # of pixel 2K-i+1 for each i
    # The formula with both sides moved by rho / sigma: the same, and where a margin can be put.
    at_least = torch.special.ndtr(torch.special.ndtri(low.clamp(0, 1)) - rho / votes.sigma)
    at_most = torch.special.ndtr(torch.special.ndtri(high.clamp(0, 1)) + rho / votes.sigma)
    return (at_least - margin > at_most).sum(dim=1)


def largest_radius(samples: int, pixels: int, sigma: float, confidence: float = 0.95) -> float:
    """Return the largest rho at which `certified_overlap` can be above 0 by Hoeffding's bound: sigma Phi^-1(1 - c).

    Even for pixels that get all votes, or none: what is not certified at this radius no network and no method makes
    certified. By exact bounds it is larger: sigma Phi^-1(e^(1 / q)), with e = (1 - eta) / (2 d) and q copies.
    """
    checks.count(samples, "samples")
    checks.count(pixels, "pixels")
    c = math.sqrt(math.log(2 * pixels / _error(confidence)) / (2 * samples))
    return checks.positive(sigma, "sigma") * (NormalDist().inv_cdf(1 - c) if c < 0.5 else 0.0)


def certify_pixels(votes: Votes, tau: float = 0.75, alpha: float = 0.001) -> Tensor:
    """Return what is certain of each pixel (N, H, W), int64: 1 among the most salient, 0 not, `ABSTAINED` not known.

    A pixel is certified to be among the most salient, by the majority of all noisy copies, if more than a share `tau`
    of them votes for it; and not to be, if more than `tau` does not. It is then so for every image within
    `pixel_radius(sigma, tau)`. All pixels of an image together are right with probability 1 - `alpha`.

    Parameters
    ----------
    votes : Votes
    tau : float
        From 1/2 on, below 1.
    alpha : float
        The tests, exact and binomial, are one-sided, two for each of d pixels: each has the level alpha / (2 d).

    Raises
    ------
    ValueError
        If an argument is not as described.

    References
    ----------
    Anani, Lorenz, Fritz, Schiele, *Pixel-level Certified Explanations via Randomized Smoothing*, ICML 2025,
    arXiv:2506.15499; the tests as in Fischer, Baader, Vechev, *Scalable Certified Segmentation via Randomized
    Smoothing*, ICML 2021, with Bonferroni's correction.
    """
    _check_tau(tau)
    error = _error(1 - checks.positive(alpha, "alpha")) / (2 * votes.counts[0].numel())
    low, high = share_bounds(votes, error, "clopper-pearson")
    certain = torch.full_like(votes.counts, ABSTAINED)
    return certain.masked_fill(low > tau, 1).masked_fill(high < 1 - tau, 0)


def pixel_radius(sigma: float, tau: float) -> float:
    """Return the radius in L2 within which what `certify_pixels` says holds: sigma Phi^-1(tau)."""
    _check_tau(tau)
    return checks.positive(sigma, "sigma") * NormalDist().inv_cdf(tau)


def _check_tau(tau: float) -> None:
    if not 0.5 <= checks.positive(tau, "tau") < 1:
        raise ValueError(f"tau: expected a number from 0.5 to below 1, got {tau!r}")


def _error(confidence: float) -> float:
    return 1 - checks.positive(confidence, "confidence", below=1)
