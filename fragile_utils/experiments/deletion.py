"""Deletion and insertion: whether the pixels that a map points at matter to the network.

A map that never moves may be steady because it says nothing. Here pixels are taken away, or put in, in the order of
the map, and beside it in a random order: an explanation that says something beats chance.
"""

import torch
from torch import Tensor, nn

from fragile_utils._base import checks, precision
from fragile_utils._base.seeds import for_each, uniform

STEPS = 10  # tenths of the image


@precision.float32()
@torch.no_grad()
def deletion(model: nn.Module, images: Tensor, labels: Tensor, maps: Tensor, steps: int = STEPS) -> Tensor:
    """Return the mean confidence (N,) while the most salient pixels are replaced by the image's mean colour.

    Low where a map points at what the network uses.

    Parameters
    ----------
    model : Module
        In evaluation mode.
    images : Tensor (N, 3, H, W)
    labels : Tensor (N,)
        The classes whose confidence is taken.
    maps : Tensor (N, H, W)
    steps : int
        In how many equal parts the image is taken away; the confidence is averaged over the ends of all parts, and the
        original, by the trapezoidal rule.

    Raises
    ------
    ValueError
        If images, labels or maps are not as described, or not of one another.

    References
    ----------
    Petsiuk, Das, Saenko, *RISE: Randomized Input Sampling for Explanation of Black-box Models*, BMVC 2018,
    section 4.2, which takes away to grey, and inserts into a blurred image.
    """
    return _area(model, images, labels, maps, steps, insert=False)


@precision.float32()
@torch.no_grad()
def insertion(model: nn.Module, images: Tensor, labels: Tensor, maps: Tensor, steps: int = STEPS) -> Tensor:
    """Return the mean confidence (N,) while the most salient pixels are put into an image of the mean colour.

    High where a map points at what the network uses. Parameters as for `deletion`.
    """
    return _area(model, images, labels, maps, steps, insert=True)


def random_order(images: Tensor, seeds: tuple[int, ...]) -> Tensor:
    """Return maps (N, H, W) that put the pixels in a random order, image by image."""
    return for_each(uniform, images, seeds).mean(1) + 1


def _area(model: nn.Module, images: Tensor, labels: Tensor, maps: Tensor, steps: int, insert: bool) -> Tensor:
    checks.evaluation_mode(model)
    count, _, *size = checks.images(images).shape
    checks.labels(labels, count, device=images.device)
    if checks.maps(maps).shape != (count, *size):
        raise ValueError(f"maps: expected one for each image, {(count, *size)}, got {tuple(maps.shape)}")
    checks.count(steps, "steps")
    ranks = maps.flatten(1).argsort(dim=1, descending=True, stable=True).argsort(dim=1).view_as(maps)
    mean = images.mean(dim=(2, 3), keepdim=True)
    pixels, confidences = maps[0].numel(), []
    for step in range(steps + 1):
        first = (ranks < round(pixels * step / steps))[:, None]
        shown = torch.where(first if insert else ~first, images, mean)
        scores = checks.logits(model(shown), count)
        checks.labels(labels, count, scores.shape[1])
        confidences.append(scores.softmax(1).gather(1, labels[:, None]).squeeze(1))
    curve = torch.stack(confidences)
    return torch.trapezoid(curve, dim=0) / steps
