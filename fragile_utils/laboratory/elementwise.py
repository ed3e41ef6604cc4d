"""Operators that work number by number: arithmetic, comparisons, activations, types."""

from typing import Any

import torch
from torch import Tensor

from fragile_utils.laboratory.graph import Graph, Spec, Value
from fragile_utils.laboratory.table import Table, overloads

aten = torch.ops.aten
ELEMENTWISE = Table()

# --- The same in both ------------------------------------------------------------------------------------------------

UNARY = {
    **{aten.neg: "Neg", aten.abs: "Abs", aten.reciprocal: "Reciprocal", aten.sqrt: "Sqrt", aten.relu: "Relu"},
    **{aten.exp: "Exp", aten.log: "Log", aten.erf: "Erf", aten.tanh: "Tanh", aten.sin: "Sin", aten.cos: "Cos"},
    **{aten.tan: "Tan", aten.atan: "Atan", aten.sinh: "Sinh", aten.cosh: "Cosh", aten.floor: "Floor"},
    **{aten.ceil: "Ceil", aten.round: "Round", aten.isnan: "IsNaN", aten.isinf: "IsInf"},
}
BINARY = {
    **{aten.add: "Add", aten.sub: "Sub", aten.mul: "Mul", aten.div: "Div"},
    **{aten.minimum: "Min", aten.maximum: "Max"},
}
COMPARISONS = {
    **{aten.eq: "Equal", aten.gt: "Greater", aten.ge: "GreaterOrEqual", aten.lt: "Less", aten.le: "LessOrEqual"}
}
LOGIC = {
    **dict.fromkeys((aten.logical_and, aten.bitwise_and), "And"),
    **dict.fromkeys((aten.logical_or, aten.bitwise_or), "Or"),
    **dict.fromkeys((aten.logical_xor, aten.bitwise_xor), "Xor"),
}


def _enter_unary(operator: str, packet: Any) -> None:
    @ELEMENTWISE.writes(*overloads(packet, "default"))
    def unary(graph: Graph, out: Spec, x: Value) -> str:
        return graph.add(operator, x)


def _enter_binary(operator: str, packet: Any) -> None:
    @ELEMENTWISE.writes(*overloads(packet, "default", "Tensor", "Scalar"))
    def binary(graph: Graph, out: Spec, x: Value, y: Value | float, alpha: float = 1) -> str:
        left, right = graph.cast(x, out.dtype), graph.cast(y, out.dtype)
        if out.dtype == torch.bool and operator == "Mul":
            return graph.add("And", left, right)
        if alpha != 1:
            right = graph.add("Mul", right, graph.constant(alpha, out.dtype))
        return graph.add(operator, left, right)


def _enter_comparison(operator: str, packet: Any) -> None:
    @ELEMENTWISE.writes(*overloads(packet, "Tensor", "Scalar"))
    def comparison(graph: Graph, out: Spec, x: Value, y: Value | float) -> str:
        dtype = _common(x, y)
        return graph.add(operator, graph.cast(x, dtype), graph.cast(y, dtype))


def _enter_logic(operator: str, packet: Any) -> None:
    @ELEMENTWISE.writes(*overloads(packet, "default", "Tensor", "Scalar"))
    def logic(graph: Graph, out: Spec, x: Value, y: Value | bool) -> str:
        if out.dtype != torch.bool:
            raise ValueError("bits of whole numbers cannot be exported")
        return graph.add(operator, graph.cast(x, torch.bool), graph.cast(y, torch.bool))


for enter, names in (
    (_enter_unary, UNARY),
    (_enter_binary, BINARY),
    (_enter_comparison, COMPARISONS),
    (_enter_logic, LOGIC),
):
    for packet, operator in names.items():
        enter(operator, packet)


@ELEMENTWISE.writes(*overloads(aten.rsub, "Tensor", "Scalar"))
def rsub(graph: Graph, out: Spec, x: Value, y: Value | float, alpha: float = 1) -> str:
    subtracted = graph.cast(x, out.dtype)
    if alpha != 1:
        subtracted = graph.add("Mul", subtracted, graph.constant(alpha, out.dtype))
    return graph.add("Sub", graph.cast(y, out.dtype), subtracted)


@ELEMENTWISE.writes(*overloads(aten.lerp, "Tensor", "Scalar"))
def lerp(graph: Graph, out: Spec, x: Value, y: Value, share: Value | float) -> str:
    way = graph.add("Mul", graph.cast(share, out.dtype), graph.add("Sub", y, x))
    return graph.add("Add", x, way)


@ELEMENTWISE.writes(*overloads(aten.ne, "Tensor", "Scalar"))
def ne(graph: Graph, out: Spec, x: Value, y: Value | float) -> str:
    dtype = _common(x, y)
    return graph.add("Not", graph.add("Equal", graph.cast(x, dtype), graph.cast(y, dtype)))


@ELEMENTWISE.writes(aten.logical_not.default, aten.bitwise_not.default)
def logical_not(graph: Graph, out: Spec, x: Value) -> str:
    if out.dtype != torch.bool:
        raise ValueError("bits of whole numbers cannot be exported")
    return graph.add("Not", graph.cast(x, torch.bool))


# --- What takes more than one ----------------------------------------------------------------------------------------


@ELEMENTWISE.writes(aten.sigmoid.default)
def sigmoid(graph: Graph, out: Spec, x: Value) -> str:
    """1 / (1 + exp(-x)): onnxruntime's Sigmoid is 0 from -18 on, and its logarithm, which softplus takes, useless."""
    grown = graph.add("Add", graph.add("Exp", graph.add("Neg", x)), graph.constant(1, x.dtype))
    return graph.add("Reciprocal", grown)


@ELEMENTWISE.writes(aten.sign.default, aten.sgn.default)
def sign(graph: Graph, out: Spec, x: Value) -> str:
    """By comparisons: Sign has no WebGPU kernel in onnxruntime-web."""
    zero = graph.constant(0, x.dtype)
    above, below = (Value(graph.add(way, x, zero), x.shape, torch.bool) for way in ("Greater", "Less"))
    return graph.add("Sub", graph.cast(above, x.dtype), graph.cast(below, x.dtype))


@ELEMENTWISE.writes(aten.rsqrt.default)
def rsqrt(graph: Graph, out: Spec, x: Value) -> str:
    return graph.add("Reciprocal", graph.add("Sqrt", x))


@ELEMENTWISE.writes(aten.log1p.default)
def log1p(graph: Graph, out: Spec, x: Value) -> str:
    """log(u) x / (u - 1) with u = 1 + x rounded, which has the rounding of both; x where that is 1.

    References
    ----------
    Goldberg, *What Every Computer Scientist Should Know About Floating-Point Arithmetic*, 1991, theorem 4.
    """
    one = graph.constant(1, x.dtype)
    u = graph.add("Add", x, one)
    ratio = graph.add("Div", graph.add("Mul", graph.add("Log", u), x), graph.add("Sub", u, one))
    return graph.add("Where", graph.add("Equal", u, one), x, ratio)


@ELEMENTWISE.writes(aten.expm1.default)
def expm1(graph: Graph, out: Spec, x: Value) -> str:
    """2 t / (1 - t) with t = tanh(x / 2) where x is small, exp(x) - 1 elsewhere."""
    one, two = graph.constant(1, x.dtype), graph.constant(2, x.dtype)
    t = graph.add("Tanh", graph.add("Div", x, two))
    near = graph.add("Div", graph.add("Mul", two, t), graph.add("Sub", one, t))
    far = graph.add("Sub", graph.add("Exp", x), one)
    return graph.add("Where", graph.add("Less", graph.add("Abs", x), one), near, far)


@ELEMENTWISE.writes(*overloads(aten.pow, "Tensor_Scalar", "Tensor_Tensor", "Scalar"))
def power(graph: Graph, out: Spec, x: Value | float, y: Value | float) -> str:
    base = graph.cast(x, out.dtype)
    return graph.add("Mul", base, base) if _is(y, 2) else graph.add("Pow", base, graph.cast(y, out.dtype))


@ELEMENTWISE.writes(*overloads(aten.clamp, "default", "Tensor"))
def clamp(
    graph: Graph, out: Spec, x: Value, low: Value | float | None = None, high: Value | float | None = None
) -> str:
    name = graph.cast(x, out.dtype)
    if _is(low, 0) and out.dtype.is_floating_point:
        name = graph.add("Relu", name)
    elif low is not None:
        name = graph.add("Max", name, graph.cast(low, out.dtype))
    return name if high is None else graph.add("Min", name, graph.cast(high, out.dtype))


@ELEMENTWISE.writes(*overloads(aten.where, "self", "ScalarOther", "ScalarSelf", "Scalar"))
def where(graph: Graph, out: Spec, condition: Value, x: Value | float, y: Value | float) -> str:
    return graph.add("Where", condition, graph.cast(x, out.dtype), graph.cast(y, out.dtype))


@ELEMENTWISE.writes(aten._to_copy.default, *overloads(aten.to, "dtype"))
def to_copy(graph: Graph, out: Spec, x: Value, *_: Any, **__: Any) -> str:
    return graph.cast(x, out.dtype)


@ELEMENTWISE.writes(aten.alias.default, aten.detach.default, aten.clone.default, aten.lift_fresh_copy.default)
def same(graph: Graph, out: Spec, x: Value, **_: Any) -> str:
    return x.name


def _common(x: Value, y: Value | float) -> torch.dtype:
    """Return the type in which PyTorch compares two values, or a value and a number."""
    of_y: Any = torch.empty((), dtype=y.dtype) if isinstance(y, Value) and not y.shape else y
    of_y = torch.empty(1, dtype=y.dtype) if isinstance(y, Value) and y.shape else of_y
    of_x = torch.empty((1,) * bool(x.shape), dtype=x.dtype)
    return torch.result_type(of_x, of_y)


def _is(x: Any, number: float) -> bool:
    return not isinstance(x, (Value, Tensor)) and x == number and x is not None
