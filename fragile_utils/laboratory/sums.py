"""Operators that make fewer numbers of many: sums, means, extremes, products of matrices."""

import math
from collections.abc import Sequence
from typing import Any

import torch

from fragile_utils.laboratory.graph import Graph, Spec, Value
from fragile_utils.laboratory.table import Table, overloads

aten, prims = torch.ops.aten, torch.ops.prims
SUMS = Table()

REDUCTIONS = {
    **{aten.sum: "ReduceSum", aten.mean: "ReduceMean", aten.prod: "ReduceProd"},
    **{aten.amax: "ReduceMax", aten.amin: "ReduceMin"},
}


def _enter_reduction(operator: str, packet: Any) -> None:
    @SUMS.writes(*overloads(packet, "default", "dim", "dim_int", "dim_IntList"))
    def reduction(graph: Graph, out: Spec, x: Value, axes: Any = None, keepdim: bool = False, **_: Any) -> str:
        return _reduced(graph, operator, graph.cast(x, out.dtype), axes, keepdim)


for packet, operator in REDUCTIONS.items():
    _enter_reduction(operator, packet)


@SUMS.writes(*overloads(aten.all, "default", "dim", "dims"))
def all_(graph: Graph, out: Spec, x: Value, axes: Any = None, keepdim: bool = False) -> str:
    return _reduced_bool(graph, "ReduceMin", x, axes, keepdim)


@SUMS.writes(*overloads(aten.any, "default", "dim", "dims"))
def any_(graph: Graph, out: Spec, x: Value, axes: Any = None, keepdim: bool = False) -> str:
    return _reduced_bool(graph, "ReduceMax", x, axes, keepdim)


@SUMS.writes(aten.argmax.default)
def argmax(graph: Graph, out: Spec, x: Value, axis: int | None = None, keepdim: bool = False) -> str:
    return _place(graph, "ArgMax", out, x, axis, keepdim)


@SUMS.writes(aten.argmin.default)
def argmin(graph: Graph, out: Spec, x: Value, axis: int | None = None, keepdim: bool = False) -> str:
    return _place(graph, "ArgMin", out, x, axis, keepdim)


@SUMS.writes(aten.max.dim)
def max_(graph: Graph, out: list[Spec], x: Value, axis: int, keepdim: bool = False) -> list[str]:
    return [
        _reduced(graph, "ReduceMax", x.name, axis, keepdim),
        graph.add("ArgMax", x, axis=axis, keepdims=int(keepdim)),
    ]


@SUMS.writes(aten.min.dim)
def min_(graph: Graph, out: list[Spec], x: Value, axis: int, keepdim: bool = False) -> list[str]:
    return [
        _reduced(graph, "ReduceMin", x.name, axis, keepdim),
        graph.add("ArgMin", x, axis=axis, keepdims=int(keepdim)),
    ]


@SUMS.writes(aten.cumsum.default)
def cumsum(graph: Graph, out: Spec, x: Value, axis: int, **_: Any) -> str:
    return graph.add("CumSum", graph.cast(x, out.dtype), graph.constant(axis))


@SUMS.writes(aten.var.correction)
def var(
    graph: Graph, out: Spec, x: Value, axes: Any = None, *, correction: float | None = None, keepdim: bool = False
) -> str:
    return _variance(graph, x, axes, 1 if correction is None else correction, keepdim)


@SUMS.writes(aten.var_mean.correction)
def var_mean(
    graph: Graph,
    out: list[Spec],
    x: Value,
    axes: Any = None,
    *,
    correction: float | None = None,
    keepdim: bool = False,
) -> list[str]:
    mean = _reduced(graph, "ReduceMean", x.name, axes, keepdim)
    return [_variance(graph, x, axes, 1 if correction is None else correction, keepdim), mean]


# LayerNorm and GroupNorm are taken apart into these.


@SUMS.writes(prims.var.default)
def prims_var(graph: Graph, out: Spec, x: Value, axes: Sequence[int], correction: float = 1, **_: Any) -> str:
    return _variance(graph, x, axes, correction, False)


@SUMS.writes(prims.sum.default)
def prims_sum(graph: Graph, out: Spec, x: Value, axes: Sequence[int], **_: Any) -> str:
    return _reduced(graph, "ReduceSum", x.name, axes, False)


@SUMS.writes(prims.div.default)
def prims_div(graph: Graph, out: Spec, x: Value, y: Value | float) -> str:
    return graph.add("Div", graph.cast(x, out.dtype), graph.cast(y, out.dtype))


@SUMS.writes(prims.broadcast_in_dim.default)
def prims_broadcast_in_dim(graph: Graph, out: Spec, x: Value, shape: Sequence[int], axes: Sequence[int]) -> str:
    placed = [1] * len(out.shape)
    for axis, size in zip(axes, x.shape, strict=True):
        placed[axis] = size
    return graph.add("Expand", graph.shaped(x, placed), graph.constant(list(out.shape)))


@SUMS.writes(aten.mm.default, aten.mv.default, aten.bmm.default, aten.dot.default)
def product(graph: Graph, out: Spec, x: Value, y: Value) -> str:
    return graph.add("MatMul", x, y)


def _reduced(graph: Graph, operator: str, name: str, axes: int | Sequence[int] | None, keepdim: bool) -> str:
    """Return the name of a reduction over some axes, or over all where none is named."""
    axes = [axes] if isinstance(axes, int) else list(axes or ())
    return graph.add(operator, name, *([graph.constant(axes)] if axes else []), keepdims=int(keepdim))


def _variance(graph: Graph, x: Value, axes: Sequence[int] | None, correction: float, keepdim: bool) -> str:
    """Return the name of the sum of squared distances from the mean, over their number less a correction."""
    away = graph.add("Sub", x, _reduced(graph, "ReduceMean", x.name, axes, True))
    total = _reduced(graph, "ReduceSum", graph.add("Mul", away, away), axes, keepdim)
    count = math.prod(x.shape[axis] for axis in axes) if axes else math.prod(x.shape)
    return graph.add("Div", total, graph.constant(max(0, count - correction), x.dtype))


def _reduced_bool(graph: Graph, operator: str, x: Value, axes: Any, keepdim: bool) -> str:
    """Return the name of an extreme of truth values, for which there is none in ONNX."""
    numbers = graph.cast(Value(graph.cast(x, torch.bool), x.shape, torch.bool), torch.int32)
    found = _reduced(graph, operator, numbers, axes, keepdim)
    return graph.cast(Value(found, (), torch.int32), torch.bool)


def _place(graph: Graph, operator: str, out: Spec, x: Value, axis: int | None, keepdim: bool) -> str:
    if axis is not None:
        return graph.add(operator, x, axis=axis, keepdims=int(keepdim))
    found = graph.add(operator, graph.shaped(x, (-1,)), axis=0, keepdims=0)
    return graph.shaped(found, out.shape)
