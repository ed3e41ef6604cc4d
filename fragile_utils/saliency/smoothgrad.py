"""SmoothGrad: any method, averaged over noise."""

import functools
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fragile_utils._base import checks
from fragile_utils.saliency._sums import as_batch, check_chunk, in_chunks
from fragile_utils.saliency.gradient import Gradient
from fragile_utils.saliency.method import Method, logits_of


@dataclass(frozen=True)
class SmoothGrad(Method):
    """Any method, averaged over copies of the image with Gaussian noise.

    Parameters
    ----------
    method : Method
        What is averaged.
    samples : int
        The number of noisy copies.
    sigma : float
        Standard deviation of the noise, in units of images in [0, 1]. Noisy copies are not clipped.
    seed : int
        Of the noise, which is the same for each image and on each call and device.
    chunk : int, optional
        As for `IntegratedGradients`: how many noisy images to hold the graphs of at a time.

    References
    ----------
    Smilkov et al., *SmoothGrad: Removing Noise by Adding Noise*, 2017, arXiv:1706.03825.
    """

    method: Method = Gradient()  # noqa: RUF009 - a frozen value
    samples: int = 50
    sigma: float = 0.15
    seed: int = 0
    chunk: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.method, Method):
            raise ValueError(f"method: expected a saliency method, got {self.method!r}")
        checks.count(self.samples, "samples")
        checks.positive(self.sigma, "sigma")
        checks.seed(self.seed)
        check_chunk(self.chunk)

    def explain(
        self, model: nn.Module, images: Tensor, targets: Tensor, create_graph: bool = False
    ) -> tuple[Tensor, Tensor]:
        noise = self.sigma * _noise(self.seed, (self.samples, 1, *images.shape[1:])).to(images)

        def part(x: Tensor, rows: slice, points: slice, create_graph: bool) -> tuple[Tensor, Tensor | None]:
            noisy = as_batch(x + noise[points], like=x)
            repeated = targets[rows].repeat(len(noisy) // len(x))
            attributions = self.method.attributions(model, noisy, repeated, create_graph)
            mean = attributions.unflatten(0, (-1, len(x))).sum(0) / self.samples
            return mean, None if points.stop < self.samples else logits_of(model, x, create_graph)

        return in_chunks(part, model, images, self.samples, self.chunk, create_graph)


@functools.lru_cache(maxsize=1)  # an attack asks for the same at each step
def _noise(seed: int, shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
