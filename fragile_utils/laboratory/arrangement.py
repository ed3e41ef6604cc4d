"""Operators that move numbers to other places: views, slices, parts put together, values at places."""

import math
from collections.abc import Sequence
from typing import Any

import torch

from fragile_utils.laboratory.graph import Graph, Spec, Value
from fragile_utils.laboratory.table import Table, overloads

aten = torch.ops.aten
ARRANGEMENT = Table()
END = 2**63 - 1  # of a slice that goes to the end

# --- Other shapes ----------------------------------------------------------------------------------------------------


@ARRANGEMENT.writes(
    *(aten.view.default, aten._unsafe_view.default, aten.reshape.default, aten.unsqueeze.default),
    *overloads(aten.squeeze, "default", "dim", "dims"),
)
def view(graph: Graph, out: Spec, x: Value, *_: Any) -> str:
    return graph.shaped(x, out.shape)


@ARRANGEMENT.writes(aten.permute.default)
def permute(graph: Graph, out: Spec, x: Value, axes: Sequence[int]) -> str:
    axes = [axis % len(axes) for axis in axes]
    return x.name if axes == sorted(axes) else graph.add("Transpose", x, perm=axes)


@ARRANGEMENT.writes(aten.t.default)
def t(graph: Graph, out: Spec, x: Value) -> str:
    return graph.add("Transpose", x)


@ARRANGEMENT.writes(aten.transpose.int)
def transpose(graph: Graph, out: Spec, x: Value, first: int, second: int) -> str:
    axes = list(range(len(x.shape)))
    axes[first], axes[second] = axes[second], axes[first]
    return permute(graph, out, x, axes)


@ARRANGEMENT.writes(aten.expand.default)
def expand(graph: Graph, out: Spec, x: Value, size: Sequence[int], **_: Any) -> str:
    return x.name if x.shape == out.shape else graph.add("Expand", x, graph.constant(list(out.shape)))


@ARRANGEMENT.writes(aten.copy.default)
def copy(graph: Graph, out: Spec, x: Value, values: Value, *_: Any) -> str:
    value = Value(graph.cast(values, out.dtype), values.shape, out.dtype)
    return expand(graph, out, value, out.shape)


@ARRANGEMENT.writes(aten.repeat.default)
def repeat(graph: Graph, out: Spec, x: Value, times: Sequence[int]) -> str:
    shape = (1,) * (len(times) - len(x.shape)) + x.shape
    return graph.add("Tile", graph.shaped(x, shape), graph.constant(list(times)))


# --- Parts -----------------------------------------------------------------------------------------------------------


@ARRANGEMENT.writes(aten.slice.Tensor)
def slice_(
    graph: Graph, out: Spec, x: Value, axis: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> str:
    size = x.shape[axis]
    start, end = _within(start, 0, size), _within(end, size, size)
    return x.name if (start, end, step) == (0, size, 1) else sliced(graph, x, axis, start, end, step)


@ARRANGEMENT.writes(aten.slice_scatter.default)
def slice_scatter(
    graph: Graph,
    out: Spec,
    x: Value,
    part: Value,
    axis: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> str:
    size = x.shape[axis]
    start, end = _within(start, 0, size), _within(end, size, size)
    if step != 1:
        places = graph.constant(list(range(start, end, step)))
        shape = [1] * len(x.shape)
        shape[axis] = part.shape[axis]
        indices = graph.add("Expand", graph.shaped(places, shape), graph.constant(list(part.shape)))
        return graph.add("ScatterElements", x, indices, part, axis=axis)
    before = [sliced(graph, x, axis, 0, start)] if start > 0 else []
    after = [sliced(graph, x, axis, end, size)] if end < size else []
    return joined(graph, [*before, part.name, *after], axis)


@ARRANGEMENT.writes(aten.select.int)
def select(graph: Graph, out: Spec, x: Value, axis: int, index: int) -> str:
    return graph.add("Gather", x, graph.constant(index), axis=axis)


@ARRANGEMENT.writes(aten.split_with_sizes.default)
def split_with_sizes(graph: Graph, out: list[Spec], x: Value, sizes: Sequence[int], axis: int = 0) -> list[str]:
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    return [sliced(graph, x, axis, end - size, end) for size, end in zip(sizes, ends, strict=True)]


@ARRANGEMENT.writes(aten.flip.default)
def flip(graph: Graph, out: Spec, x: Value, axes: Sequence[int]) -> str:
    return flipped(graph, x, list(axes))


@ARRANGEMENT.writes(aten.cat.default)
def cat(graph: Graph, out: Spec, parts: Sequence[Value], axis: int = 0) -> str:
    return joined(graph, [graph.cast(part, out.dtype) for part in parts if part.shape != (0,)], axis)


@ARRANGEMENT.writes(aten.stack.default)
def stack(graph: Graph, out: Spec, parts: Sequence[Value], axis: int = 0) -> str:
    axis %= len(out.shape)
    shape = (*out.shape[:axis], 1, *out.shape[axis + 1 :])
    return joined(graph, [graph.shaped(part, shape) for part in parts], axis)


@ARRANGEMENT.writes(aten.constant_pad_nd.default)
def constant_pad_nd(graph: Graph, out: Spec, x: Value, pads: Sequence[int], value: float = 0) -> str:
    return padded(graph, x, pads, value)


# --- Places ----------------------------------------------------------------------------------------------------------


@ARRANGEMENT.writes(aten.gather.default)
def gather(graph: Graph, out: Spec, x: Value, axis: int, index: Value, **_: Any) -> str:
    return graph.add("GatherElements", x, index, axis=axis)


@ARRANGEMENT.writes(aten.index_select.default)
def index_select(graph: Graph, out: Spec, x: Value, axis: int, index: Value) -> str:
    return graph.add("Gather", x, index, axis=axis)


@ARRANGEMENT.writes(aten.index.Tensor, *overloads(aten._unsafe_index, "Tensor"))
def index(graph: Graph, out: Spec, x: Value, indices: Sequence[Value | None]) -> str:
    """By one index into the axes that are indexed, taken as one axis; they have to stand side by side."""
    axes = [axis for axis, given in enumerate(indices) if given is not None]
    first, last = axes[0], axes[-1] + 1
    chosen = [indices[axis] for axis in axes]
    if axes != list(range(first, last)) or any(c.dtype not in (torch.int64, torch.int32) for c in chosen):
        raise ValueError("expected indices of axes that stand side by side, as whole numbers")
    joint = None
    for axis, given in zip(axes, chosen, strict=True):
        size = graph.constant(x.shape[axis])
        here = graph.add("Mod", graph.add("Add", graph.cast(given, torch.int64), size), size)  # -1 is the last
        joint = here if joint is None else graph.add("Add", graph.add("Mul", joint, size), here)
    shape = (*x.shape[:first], math.prod(x.shape[first:last]), *x.shape[last:])
    return graph.add("Gather", graph.shaped(x, shape), joint, axis=first)


@ARRANGEMENT.writes(aten.scatter.src)
def scatter(graph: Graph, out: Spec, x: Value, axis: int, index: Value, values: Value) -> str:
    return scattered(graph, x, axis, index, _first(graph, values, index.shape))


@ARRANGEMENT.writes(aten.scatter.value)
def scatter_value(graph: Graph, out: Spec, x: Value, axis: int, index: Value, value: float) -> str:
    return scattered(graph, x, axis, index, graph.filled(value, Spec(index.shape, x.dtype)))


@ARRANGEMENT.writes(aten.scatter_add.default)
def scatter_add(graph: Graph, out: Spec, x: Value, axis: int, index: Value, values: Value) -> str:
    return scattered(graph, x, axis, index, _first(graph, values, index.shape), reduction="add")


# --- Pieces that others share ----------------------------------------------------------------------------------------


def sliced(graph: Graph, x: Value | str, axis: int, start: int, end: int, step: int = 1) -> str:
    return graph.add("Slice", x, *(graph.constant([number]) for number in (start, end, axis, step)))


def flipped(graph: Graph, x: Value | str, axes: Sequence[int]) -> str:
    """Return the name of a value that runs backwards along these axes."""
    lists = ([-1] * len(axes), [-END] * len(axes), axes, [-1] * len(axes))
    return graph.add("Slice", x, *map(graph.constant, lists)) if axes else graph.add("Identity", x)


def joined(graph: Graph, parts: list[str], axis: int) -> str:
    return parts[0] if len(parts) == 1 else graph.add("Concat", *parts, axis=axis)


def padded(graph: Graph, x: Value, pads: Sequence[int], value: float) -> str:
    """Return the name of a padded value; `pads` as in PyTorch, from the last axis on: before, after, before, ..."""
    if not any(pads):
        return x.name
    rest = [0] * (len(x.shape) - len(pads) // 2)
    before, after = [*rest, *pads[::2][::-1]], [*rest, *pads[1::2][::-1]]
    return graph.add("Pad", x, graph.constant([*before, *after]), graph.constant(value, x.dtype))


def scattered(graph: Graph, x: Value | str, axis: int, index: Value | str, values: str, **options: str) -> str:
    return graph.add("ScatterElements", x, index, values, axis=axis, **options)


def _first(graph: Graph, values: Value, shape: tuple[int, ...]) -> str:
    """Return the name of the first values along each axis: PyTorch takes more of them than there are places."""
    name = values.name
    for axis, (have, want) in enumerate(zip(values.shape, shape, strict=True)):
        name = name if have == want else sliced(graph, name, axis, 0, want)
    return name


def _within(place: int | None, otherwise: int, size: int) -> int:
    """Return where a slice begins or ends, counted from the front, within the axis."""
    place = otherwise if place is None else place
    return min(max(place + size if place < 0 else place, 0), size)
