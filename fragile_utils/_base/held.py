"""What a value holds for each image of a batch, and the same for some of them: by looking at its parts."""

import operator
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class PerImage:
    """What may hold something for each image: a baseline, a method, an attack."""

    def of(self: T, rows: Tensor) -> T:
        """Return the same for some images of a batch; `rows` is boolean (N,).

        By default each part of this kind that it holds (a baseline, a method, an attack), alone, in a tuple, a list or
        a dict, is that for these images, and nothing else changes. What holds something else for each image says here
        how it is cut.
        """
        return changed(self, lambda part: part.of(rows))

    def among(self: T, rows: slice, images: int) -> T:
        """Return the same for the images `rows` of so many that come in parts: see `of`."""
        mask = torch.zeros(images, dtype=torch.bool)
        mask[rows] = True
        return self.of(mask)


def changed(holder: T, function: Callable[[PerImage], PerImage]) -> T:
    """Return a copy of `holder` with a function of each part; `holder` itself where that changes none of them."""
    before = _attributes(holder)
    after = _map(before, lambda part: part if part is holder else function(part))
    if after is before:
        return holder
    same = object.__new__(type(holder))
    for name, value in after.items():
        if not isinstance(getattr(type(holder), name, None), cached_property):  # computed from what is changed
            object.__setattr__(same, name, value)  # of a frozen one, too
    return same


def everything(holder: PerImage) -> Iterator[PerImage]:
    """Yield a holder, its parts, and theirs."""
    found, seen = [holder], set()
    while found:
        part = found.pop()
        if id(part) not in seen:
            seen.add(id(part))
            yield part
            changed(part, lambda held: found.append(held) or held)


def _attributes(holder: Any) -> dict[str, Any]:
    slots = [name for cls in type(holder).__mro__ for name in _slots(cls)]
    return {name: getattr(holder, name) for name in slots if hasattr(holder, name)} | getattr(holder, "__dict__", {})


def _slots(cls: type) -> list[str]:
    """Return the names of a class's slots, private ones as they are stored."""
    slots = cls.__dict__.get("__slots__", ())
    names = [
        name for name in ((slots,) if isinstance(slots, str) else slots) if name not in ("__dict__", "__weakref__")
    ]
    private = f"_{cls.__name__.lstrip('_')}"
    return [private + name if name.startswith("__") and not name.endswith("__") else name for name in names]


def _map(value: Any, function: Callable[[PerImage], PerImage]) -> Any:
    """Return the same with a function of each part in it; `value` itself where nothing is changed."""
    if isinstance(value, PerImage):
        return function(value)
    if type(value) in (tuple, list) or hasattr(value, "_make"):  # of a named tuple
        parts = getattr(value, "_make", type(value))(_map(each, function) for each in value)
        return value if all(map(operator.is_, parts, value)) else parts
    if type(value) is dict:
        parts = {name: _map(each, function) for name, each in value.items()}
        return value if all(map(operator.is_, parts.values(), value.values())) else parts
    return value
