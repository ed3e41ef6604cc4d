"""Explanations that rest on random numbers: which do, and the same with other noise."""

from dataclasses import replace

import torch

from fragile_utils._base.held import PerImage, changed, everything
from fragile_utils.saliency import Method, SmoothGrad

APART = 100_003  # seeds of one draw, or start, to those of the next: more than there are images in a batch


def redraw(method: Method, seed: int | torch.Generator, samples: int | None = None) -> Method:
    """Return the method with other noise, wherever it or a part of it is a `saliency.SmoothGrad`.

    Parameters
    ----------
    method : Method
    seed : int or torch.Generator
        Of the noise: the same on each call, or new on each call from the generator. Where each image has a seed of its
        own, this is added to them.
    samples : int, optional
        The number of noisy copies; by default the method's.

    Returns
    -------
    Method
        `method` itself where nothing in it is random.
    """

    def redrawn(part: PerImage) -> PerImage:
        return redraw(part, seed, samples) if isinstance(part, Method) else part

    method = changed(method, redrawn)
    if not isinstance(method, SmoothGrad):
        return method
    if isinstance(method.seed, tuple) and not isinstance(seed, torch.Generator):
        seed = tuple(seed + own for own in method.seed)
    return replace(method, seed=seed, samples=method.samples if samples is None else samples)


def is_random(method: Method) -> bool:
    """Return whether the method, or a part of it, rests on random numbers."""
    return any(isinstance(part, SmoothGrad) for part in everything(method))


def is_new_each_time(method: Method) -> bool:
    """Return whether the noise of the method, or of a part of it, is from a generator, and other on each call."""
    return any(isinstance(p, SmoothGrad) and isinstance(p.seed, torch.Generator) for p in everything(method))
