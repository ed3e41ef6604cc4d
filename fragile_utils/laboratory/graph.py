"""An ONNX graph under construction: nodes, constants, and nothing twice."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

OPSET, IR_VERSION = 18, 10  # what onnxruntime has read since 1.18
TYPES = {  # the types of values, in ONNX and in NumPy
    torch.float32: (TensorProto.FLOAT, np.float32),
    torch.float64: (TensorProto.DOUBLE, np.float64),
    torch.int64: (TensorProto.INT64, np.int64),
    torch.int32: (TensorProto.INT32, np.int32),
    torch.bool: (TensorProto.BOOL, np.bool_),
}
SMALL = 1024  # numbers: below that, no constant is worth a place of its own, or a shorter type


class Spec(NamedTuple):
    """What is known of a value before it is computed."""

    shape: tuple[int, ...]
    dtype: torch.dtype


class Value(NamedTuple):
    """A value of the graph: the name under which it stands there, its shape and type."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype


class Graph:
    """Nodes and constants, to which operators add.

    Two nodes that compute the same are one node: what is computed twice where it was traced from is computed once here.
    """

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[Any, TensorProto] = {}
        self._known: dict[Any, str] = {}

    def add(self, operator: str, *inputs: Value | str, **attributes: Any) -> str:
        """Add a node with one output, and return the name of that; a name "" is an input that is left out."""
        names = tuple(x.name if isinstance(x, Value) else x for x in inputs)
        key = (operator, names, repr(sorted(attributes.items())))
        if key not in self._known:
            self._known[key] = f"v{len(self._known)}"
            self._nodes.append(helper.make_node(operator, names, [self._known[key]], **attributes))
        return self._known[key]

    def constant(self, value: Any, dtype: torch.dtype = torch.int64) -> str:
        """Return the name of a constant: a number, a list, an array or a tensor.

        Many numbers in float32 that are numbers in float16 too are kept as those.
        """
        array = np.array(value.detach().cpu() if isinstance(value, Tensor) else value, TYPES[dtype][1], order="C")
        key = (array.shape, array.dtype.str, array.tobytes())
        if key not in self._constants:
            halved = array if array.size < SMALL else _halved(array)
            self._constants[key] = numpy_helper.from_array(halved, f"c{len(self._constants)}")
        kept = self._constants[key]
        if kept.data_type == TensorProto.FLOAT16:
            return self.add("Cast", kept.name, to=TensorProto.FLOAT)
        return kept.name

    def filled(self, number: float, spec: Spec) -> str:
        """Return the name of a value of one number."""
        return self.add("Expand", self.constant(number, spec.dtype), self.constant(list(spec.shape)))

    def cast(self, x: Any, dtype: torch.dtype) -> str:
        """Return the name of a value, or of a number, in this type."""
        if not isinstance(x, Value):
            return self.constant(x, dtype)
        return x.name if x.dtype == dtype else self.add("Cast", x, to=TYPES[dtype][0])

    def shaped(self, x: Value | str, shape: Sequence[int]) -> str:
        """Return the name of the same numbers in another shape."""
        same = isinstance(x, Value) and tuple(x.shape) == tuple(shape)
        return x.name if same else self.add("Reshape", x, self.constant(list(shape)))

    def model(self, name: str, inputs: Sequence[Value], outputs: Sequence[tuple[str, Value]]) -> onnx.ModelProto:
        """Return the model with these inputs, and outputs of these names."""
        ends = [helper.make_node("Identity", [value.name], [end]) for end, value in outputs]
        nodes = _needed([*self._nodes, *ends], {end for end, _ in outputs})
        read = {x for node in nodes for x in node.input}
        graph = helper.make_graph(
            nodes,
            name,
            [_described(value.name, value) for value in inputs],
            [_described(end, value) for end, value in outputs],
            [constant for constant in self._constants.values() if constant.name in read],
        )
        opsets = [helper.make_opsetid("", OPSET)]
        made = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="fragile_utils")
        onnx.checker.check_model(made, full_check=True)
        return made


def _halved(array: np.ndarray) -> np.ndarray:
    """Return the array in half precision if nothing is lost, else as it is."""
    if array.dtype != np.float32:
        return array
    with np.errstate(over="ignore"):
        halved = array.astype(np.float16)
    return halved if np.array_equal(halved.astype(np.float32), array) else array


def _needed(nodes: list[onnx.NodeProto], wanted: set[str]) -> list[onnx.NodeProto]:
    """Return the nodes that something wanted depends on."""
    kept = []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            kept.append(node)
    return kept[::-1]


def _described(name: str, value: Value) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TYPES[value.dtype][0], value.shape)
