"""Random numbers that depend on a seed alone: the same for an image on any device, in any batch.

They are drawn in float32, whatever PyTorch's default type: in another type the same seed gives other numbers.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor


@contextmanager
def torch_seeded(seed: int) -> Iterator[None]:
    """Let PyTorch draw from `seed` within this context, first weights above all; after it all is as before."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # and not those of GPUs, which nobody puts back
        yield


def random_signs(image: Tensor, seed: int) -> Tensor:
    """Return -1 or 1 for each value of `image`, the same for a seed on any device."""
    generator = torch.Generator().manual_seed(seed)
    bits = torch.randint(0, 2, image.shape, generator=generator, dtype=torch.int8)
    return (2 * bits - 1).to(image)


def normal(shape: tuple[int, ...], seed: int) -> Tensor:
    """Return normal random numbers of this shape, in float32 on the CPU."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)


def uniform(image: Tensor, seed: int) -> Tensor:
    """Return a number from -1 to 1 for each value of `image`, the same for a seed on any device."""
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.rand(image.shape, generator=generator, dtype=torch.float32) - 1).to(image)


def for_each(draw: Callable[[Tensor, int], Tensor], images: Tensor, seeds: Sequence[int]) -> Tensor:
    """Return what is drawn for each of `images` (N, ...) from its own seed, in their shape."""
    drawn = [draw(image, seed) for image, seed in zip(images, seeds, strict=True)]
    return torch.stack(drawn) if drawn else images
