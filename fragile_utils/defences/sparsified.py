"""Sparsified SmoothGrad: each noisy copy votes for its most salient pixels, and the shares of votes are displayed."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fragile_utils._base import checks
from fragile_utils.saliency import Gradient, Method, SmoothGrad, normalize

TEMPERATURE = 0.25  # of the soft vote by which the displayed one is attacked


@dataclass(frozen=True)
class TopShare(Method):
    """A vote: 1 for the most salient pixels of a method's map, 0 for the others, and for pixels that are not salient.

    A hard vote has no gradient. The soft one, by which it is attacked, is s = r^(1/T) / (1 + r^(1/T)), with r a pixel's
    saliency in units of the threshold, which lies between the last pixel that the hard vote takes and the first that it
    does not (their geometric mean), and T the temperature: 1/2 at the threshold, and the hard vote for T -> 0.

    A pixel of saliency 0 gets no vote, hard or soft, even where fewer than the share are above 0: a map of zeros, on a
    network without a gradient, points nowhere.

    Parameters
    ----------
    method : Method
        Whose map is turned into votes.
    share : float
        tau, the share of the pixels that get a vote, at most; the number of pixels is rounded, and at least 1.
    temperature : float
        T of the soft vote; 0 for the hard one.

    Raises
    ------
    ValueError
        If a parameter is not as described.

    References
    ----------
    Levine, Singla, Feizi, *Certifiably Robust Interpretation in Deep Learning*, 2019, arXiv:1905.12105, section 3.
    """

    method: Method = Gradient()  # noqa: RUF009 - a frozen value
    share: float = 0.1
    temperature: float = 0.0

    def __post_init__(self) -> None:
        checks.instance(self.method, Method, "method", "Gradient()")
        checks.positive(self.share, "share", below=1)
        checks.non_negative(self.temperature, "temperature")

    def guide(self) -> "TopShare":
        """Return the soft vote on the method's guide."""
        return replace(self, method=self.method.guide(), temperature=self.temperature or TEMPERATURE)

    def explain(
        self, model: nn.Module, images: Tensor, targets: Tensor, create_graph: bool = False
    ) -> tuple[Tensor, Tensor]:
        soft = create_graph and self.temperature > 0
        attributions, logits = self.method.explain(model, images, targets, soft)
        votes = self.votes(normalize(attributions))
        return votes[:, None].expand_as(images) / 3, logits  # a vote is for a pixel, not for one of its channels

    def votes(self, maps: Tensor) -> Tensor:
        """Return the votes (N, H, W) of maps (N, H, W): 0 or 1, or between them where the vote is soft."""
        values = maps.flatten(1)
        count = self.pixels(values.shape[1])
        top = values.topk(min(count + 1, values.shape[1]), dim=1)
        if not self.temperature:
            votes = torch.zeros_like(values).scatter_(1, top.indices[:, :count], 1)
        else:
            tiny = torch.finfo(maps.dtype).tiny
            logs, last = values.clamp(min=tiny).log(), top.values[:, count - 1 : count + 1].clamp(min=tiny).log()
            votes = torch.sigmoid((logs - last.mean(dim=1, keepdim=True)) / self.temperature)
        return votes.where(values > 0, 0).view_as(maps)

    def pixels(self, of: int) -> int:
        """Return how many of the pixels of a map get a vote."""
        return max(1, round(self.share * of))


def sparsified_smoothgrad(
    method: Method = Gradient(),  # noqa: B008 - a frozen value
    share: float = 0.1,
    samples: int = 64,
    sigma: float = 0.1,
    seed: int | torch.Generator = 0,
    chunk: int | None = None,
) -> SmoothGrad:
    """Return the method that displays, of each pixel, the share of noisy copies in which it is among the most salient.

    It is the SmoothGrad of a vote. `certificates` says what it promises. An attack takes its directions from the soft
    vote.

    Parameters
    ----------
    method, share
        Of the vote; see `TopShare`.
    samples, sigma, seed, chunk
        See `saliency.SmoothGrad`; `samples` is q in the paper, 8,192 there.

    References
    ----------
    Levine, Singla, Feizi, *Certifiably Robust Interpretation in Deep Learning*, 2019, arXiv:1905.12105.
    """
    return SmoothGrad(TopShare(method, share), samples, sigma, seed, chunk)
