"""From a graph of functions of PyTorch to an ONNX model."""

import operator
from collections.abc import Sequence
from typing import Any

import onnx
import torch
from torch import Tensor
from torch.fx import Graph as Traced
from torch.fx import GraphModule, Interpreter, Node
from torch.fx.node import map_arg

from fragile_utils.laboratory.graph import SMALL, TYPES, Graph, Spec, Value
from fragile_utils.laboratory.operators import OPERATORS

aten = torch.ops.aten
_NEW = {  # of the shape of a value, whatever its numbers
    *(aten.zeros_like.default, aten.ones_like.default, aten.full_like.default, aten.empty_like.default),
    *(aten.new_zeros.default, aten.new_ones.default, aten.new_full.default, aten.new_empty.default),
}


def translated(
    traced: Traced,
    constants: Sequence[Tensor],
    arguments: Sequence[Tensor],
    inputs: Sequence[str],
    outputs: Sequence[str],
    name: str,
) -> onnx.ModelProto:
    """Return a graph, as `trace.traced` makes it, as an ONNX model with these names of inputs and outputs.

    Raises
    ------
    ValueError
        If it computes something for which there is no operator, draws random numbers, or has values of another type
        than those of `graph.TYPES`; the function of PyTorch is named.
    """
    nodes = list(traced.nodes)
    places = [node for node in nodes if node.op == "placeholder"]
    (end,) = (node for node in nodes if node.op == "output")
    known = _Known(traced, places[len(arguments) :])
    with torch.no_grad():
        known.run(*arguments, *constants)
    made = Graph()
    given = {place: Value(name, *known.specs[place]) for place, name in zip(places, inputs, strict=False)}
    values: dict[Node, Any] = dict(given)
    for node in _needed(nodes, end, known):
        if node not in given:
            values[node] = _written(made, node, known, values)
    ends = [(name, values[node]) for name, node in zip(outputs, end.args[0], strict=True)]
    return made.model(name, list(given.values()), ends)


class _Known(Interpreter):
    """Runs a graph, and notes the shape and type of each value, and the values that are the same for all inputs."""

    def __init__(self, traced: Traced, constants: Sequence[Node]) -> None:
        super().__init__(GraphModule({}, traced))
        self.specs: dict[Node, Any] = {}
        self.constants: dict[Node, Any] = dict.fromkeys(constants)

    def run_node(self, node: Node) -> Any:
        value = super().run_node(node)
        if node.op != "output":
            self.specs[node] = _spec(node, value)
        fixed = all(read in self.constants for read in node.all_input_nodes)
        if node in self.constants or node.target in _NEW or (node.op == "call_function" and fixed):
            if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
                raise ValueError(f"{node.target} draws random numbers, which cannot be exported")
            self.constants[node] = value
        return value

    def stands(self, node: Node) -> bool:
        """Return whether a value stands in the model as numbers: constants but for large ones that can be computed."""
        value = self.constants.get(node)
        if not isinstance(value, Tensor):
            return False
        return value.numel() <= SMALL or not node.all_input_nodes or node.target in _NEW


def _spec(node: Node, value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [_spec(node, one) for one in value]
    if not isinstance(value, Tensor):
        return None
    if value.dtype not in TYPES:
        raise ValueError(f"{node.target}: expected a value of float32, got {str(value.dtype).removeprefix('torch.')}")
    return Spec(tuple(value.shape), value.dtype)


def _needed(nodes: list[Node], end: Node, known: _Known) -> list[Node]:
    """Return the nodes that have to be written, in order."""
    wanted, kept = set(end.all_input_nodes), []
    for node in reversed(nodes):
        if node in wanted:
            kept.append(node)
            wanted.update(() if known.stands(node) else node.all_input_nodes)
    return kept[::-1]


def _written(made: Graph, node: Node, known: _Known, values: dict[Node, Any]) -> Any:
    """Return the value of a node, or the list of its values, once it stands in the ONNX graph."""
    spec = known.specs[node]
    if known.stands(node):
        return Value(_constant(made, known.constants[node]), *spec)
    if node.target is operator.getitem:
        source, place = node.args
        return values[source][place]
    if node.target not in OPERATORS:
        raise ValueError(f"{node.target} cannot be exported: no operator of ONNX is known for it")
    args, kwargs = (map_arg(given, values.__getitem__) for given in (node.args, node.kwargs))
    try:
        found = OPERATORS[node.target](made, spec, *args, **kwargs)
    except ValueError as error:
        raise ValueError(f"{node.target} cannot be exported: {error}") from error
    if isinstance(found, list):
        return [name and Value(name, *one) for name, one in zip(found, spec, strict=True)]
    return Value(found, *spec)


def _constant(made: Graph, value: Tensor) -> str:
    """Return the name of a constant; one that is the same number everywhere is that number."""
    if value.numel() > SMALL and bool((value == value.flatten()[0]).all()):
        return made.filled(value.flatten()[0].item(), Spec(tuple(value.shape), value.dtype))
    return made.constant(value, value.dtype)
