"""Explanations that rest on random numbers: which do, and the same with other noise."""

from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch

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
    changes: dict[str, Any] = {}
    for name, value in _parts(method):
        if isinstance(value, Method):
            changes[name] = redraw(value, seed, samples)
        else:
            changes[name] = tuple(redraw(part, seed, samples) for part in value)
    if isinstance(method, SmoothGrad):
        if isinstance(method.seed, tuple) and not isinstance(seed, torch.Generator):
            seed = tuple(seed + own for own in method.seed)
        changes |= {"seed": seed, "samples": method.samples if samples is None else samples}
    return replace(method, **changes) if changes else method


def is_random(method: Method) -> bool:
    """Return whether the method, or a part of it, rests on random numbers."""
    if isinstance(method, SmoothGrad):
        return True
    parts = [value if isinstance(value, tuple) else (value,) for _, value in _parts(method)]
    return any(is_random(part) for group in parts for part in group)


def _parts(method: Method) -> list[tuple[str, Any]]:
    """Return the names and values of those parameters that are methods, or tuples of them."""
    pairs = [(field.name, getattr(method, field.name)) for field in fields(method)] if is_dataclass(method) else []
    return [(name, value) for name, value in pairs if _is_method(value)]


def _is_method(value: Any) -> bool:
    several = isinstance(value, tuple) and bool(value) and all(isinstance(part, Method) for part in value)
    return several or isinstance(value, Method)
