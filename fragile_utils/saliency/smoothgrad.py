"""SmoothGrad: any method, averaged over noise."""

import functools
import itertools
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fragile_utils._base import checks, schema
from fragile_utils._base.seeds import normal
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
    seed : int, tuple of int or torch.Generator
        Of the noise. A number: the same noise on each call and device, so that two maps differ by their images alone
        (common random numbers). Several, where noise is not shared: one for each image. A generator, one of the CPU:
        new noise from it on each call.
    chunk : int, optional
        As for `IntegratedGradients`: how many noisy images to hold the graphs of at a time.
    shared : bool
        Whether all images of a batch get the same noise. If not, and `seed` is a number, image i has noise of
        ``seed + i``.

    Raises
    ------
    ValueError
        If a parameter is not as described.

    References
    ----------
    Smilkov et al., *SmoothGrad: Removing Noise by Adding Noise*, 2017, arXiv:1706.03825.
    """

    method: Method = Gradient()  # noqa: RUF009 - a frozen value
    samples: int = 50
    sigma: float = 0.15
    seed: int | tuple[int, ...] | torch.Generator = 0
    chunk: int | None = None
    shared: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.method, Method):
            raise ValueError(f"method: expected a saliency method, got {self.method!r}")
        checks.count(self.samples, "samples")
        checks.positive(self.sigma, "sigma")
        check_chunk(self.chunk)
        schema.flag(self.shared, "shared")
        if not isinstance(self.seed, torch.Generator):
            if isinstance(self.seed, tuple) and self.shared:
                raise ValueError("seed: expected one, of noise that all images share, got several; give shared=False")
            for seed in self.seed if isinstance(self.seed, tuple) else (self.seed,):
                checks.seed(seed)
        elif self.seed.device.type != "cpu":
            raise ValueError(f"seed: expected a generator of the CPU, got one of {self.seed.device}")

    def guide(self) -> "SmoothGrad":
        """Return the same mean of the method's guide."""
        return replace(self, method=self.method.guide())

    def of(self, rows: Tensor) -> "SmoothGrad":
        """Return the same mean of the method for these images, each of which keeps its noise."""
        same = super().of(rows)
        if self.shared or isinstance(self.seed, torch.Generator):
            return same
        return replace(same, seed=tuple(itertools.compress(self._seeds(len(rows)), rows.tolist())))

    def explain(
        self, model: nn.Module, images: Tensor, targets: Tensor, create_graph: bool = False
    ) -> tuple[Tensor, Tensor]:
        noise = self.sigma * self._noise(images).to(images)

        def explained(method: Method, x: Tensor, copies: Tensor, labels: Tensor, create_graph: bool) -> Tensor:
            """Return the attributions (n, 3, H, W) of images, summed over their copies (m, n, 3, H, W)."""
            noisy = as_batch(copies, like=x)
            attributions = method.attributions(model, noisy, labels.repeat(len(copies)), create_graph)
            return attributions.unflatten(0, (-1, len(x))).sum(0)

        def part(x: Tensor, rows: slice, points: slice, create_graph: bool) -> tuple[Tensor, Tensor | None]:
            copies = x + (noise[points] if self.shared else noise[points, rows])
            own = self.method.among(rows, len(images))
            # What the method holds for each image fits one copy of each: then the copies come one after the other.
            several = (copies,) if own is self.method else copies.split(1)
            total = sum(explained(own, x, some, targets[rows], create_graph) for some in several)
            return total / self.samples, None if points.stop < self.samples else logits_of(model, x, create_graph)

        return in_chunks(part, model, images, self.samples, self.chunk, create_graph)

    def _noise(self, images: Tensor) -> Tensor:
        """Return noise (samples, 1, 3, H, W), or (samples, N, 3, H, W) where it is not shared, on the CPU."""
        shape, count = (self.samples, 1, *images.shape[1:]), 1 if self.shared else len(images)
        if isinstance(self.seed, torch.Generator):
            drawn = [torch.randn(shape, generator=self.seed, dtype=torch.float32) for _ in range(count)]
            return torch.cat(drawn, dim=1)
        return _noise(self._seeds(count), shape)

    def _seeds(self, count: int) -> tuple[int, ...]:
        """Return the seeds of the noise of so many images."""
        if not isinstance(self.seed, tuple):
            return tuple(range(self.seed, self.seed + count))
        if len(self.seed) != count:
            raise ValueError(f"seed: expected one for each of {count} images, got {len(self.seed)}")
        return self.seed


@functools.lru_cache(maxsize=1)  # an attack asks for the same at each step
def _noise(seeds: tuple[int, ...], shape: tuple[int, ...]) -> Tensor:
    return torch.cat([normal(shape, seed) for seed in seeds], dim=1)
