"""What is computed once in a run of many steps on the same network: its weights in another layout, for instance.

Within `run`, the network and what belongs to it do not change. Outside, nothing is taken for granted, and everything is
computed when it is asked for.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

T = TypeVar("T")

# From a name and the identities of what a value is computed from, to these, so that they live on, and the value.
_known: ContextVar[dict[tuple, tuple[tuple, Any]] | None] = ContextVar("known", default=None)


@contextmanager
def run() -> Iterator[None]:
    """Say that networks and weights stay as they are until the end of the block."""
    before = _known.set({})
    try:
        yield
    finally:
        _known.reset(before)


def in_a_run() -> bool:
    return _known.get() is not None


def once(name: str, of: tuple, make: Callable[[], T]) -> T:
    """Return ``make()``; within a `run` it is computed once for each `name` and each tuple `of` of objects."""
    known = _known.get()
    if known is None:
        return make()
    key = (name, *map(id, of))
    if key not in known:
        known[key] = of, make()
    return known[key][1]
