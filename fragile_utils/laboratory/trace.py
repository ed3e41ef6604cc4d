"""From a function of tensors to a graph of functions of PyTorch that change nothing in place."""

from collections.abc import Callable, Container
from typing import Any

import torch
from torch import Tensor
from torch._decomp import decomposition_table
from torch._guards import TracingContext, tracing
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functionalize
from torch.fx import Graph, GraphModule, Interpreter, Node
from torch.fx.experimental.proxy_tensor import make_fx

from fragile_utils._base import schema

aten = torch.ops.aten


def traced(
    function: Callable[..., tuple[Tensor, ...]], arguments: tuple[Tensor, ...], kept: Container
) -> tuple[Graph, list[Tensor]]:
    """Return the graph of what `function` computes, derivatives included, for arguments of these shapes.

    A first pass writes down what runs; a second one takes what works in place out of place, and whatever is not in
    `kept` apart into simpler functions, as far as PyTorch says how.

    Returns
    -------
    graph : Graph
        Of the arguments, and of constants after them.
    constants : list of Tensor
        The weights of the network, and whatever else is the same for all arguments.

    Raises
    ------
    ValueError
        If what is computed depends on values, by a condition for instance, or changes something that it was given.
    """
    function(*arguments)  # what is computed once and remembered, such as the steps of a network, is no part of it
    simpler = {name: written for name, written in decomposition_table.items() if name not in kept}
    try:
        first = _graph(lambda *x: function(*x), arguments)
        lifted = _Lifted(first)
        second = _graph(functionalize(lifted), (*arguments, *lifted.constants), simpler)
    except RuntimeError as error:
        said = schema.reason(error)
        raise ValueError(f"model: expected one that computes the same for every image, got {said}") from error
    for node in second.graph.nodes:
        if isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable:
            raise ValueError(f"{node.target} changes in place what is in use elsewhere, which cannot be exported")
    _rewrite(second.graph)
    return second.graph, lifted.constants


def _graph(function: Callable, arguments: tuple[Tensor, ...], simpler: dict | None = None) -> GraphModule:
    """Run `make_fx`, with the shapes of all values kept in one mode.

    Without, it makes a mode for each value, which takes as long as the rest.
    """
    with tracing(TracingContext(FakeTensorMode(allow_fallback_kernels=True))):
        return make_fx(function, decomposition_table=simpler)(*arguments)


class _Lifted:
    """A traced function whose constants are arguments, after its own: what works in place on them is seen as well."""

    def __init__(self, module: GraphModule) -> None:
        self._module = module
        self._names = list(dict.fromkeys(node.target for node in module.graph.nodes if node.op == "get_attr"))
        self.constants = [getattr(module, name).detach() for name in self._names]
        self._inputs = sum(node.op == "placeholder" for node in module.graph.nodes)

    def __call__(self, *arguments: Tensor) -> Any:
        run = Interpreter(self._module)
        given = dict(zip(self._names, arguments[self._inputs :], strict=True))
        run.fetch_attr = given.__getitem__
        return run.run(*arguments[: self._inputs])


# --- Simpler graphs --------------------------------------------------------------------------------------------------


def _rewrite(graph: Graph) -> None:
    for node in graph.nodes:
        if node.target is aten.as_strided.default:
            _as_view(node)
        elif node.target is aten.slice.Tensor:
            _read_what_was_written(node)
    graph.eliminate_dead_code()


def _as_view(node: Node) -> None:
    """Write a value read with other strides as a view, if that is what it is."""
    source, size, stride, *offset = node.args
    value = source.meta["val"]
    numbers = torch.arange(value.numel())
    laid_out = torch.empty_strided(value.shape, value.stride(), dtype=torch.int64)
    laid_out.copy_(numbers.view(value.shape))
    read = laid_out.as_strided(size, stride, *offset)
    if torch.equal(read.flatten(), numbers):
        node.target, node.args = aten.view.default, (source, size)


def _read_what_was_written(node: Node) -> None:
    """Let a slice of a copy in which another slice was replaced read that slice, or what the copy was made of.

    Out of place, a change of a slice is such a copy of the whole; often nobody needs the copy.
    """
    while node.args[0].target is aten.slice_scatter.default:
        copy = node.args[0]
        whole, part, *places = copy.args
        (axis, read), (other, written) = _rows(copy, *node.args[1:]), _rows(copy, *places)
        if axis == other and read == written:
            node.replace_all_uses_with(part)
            return
        if axis != other or set(read) & set(written):
            return
        node.args = (whole, *node.args[1:])


def _rows(
    whole: Node, axis: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> tuple[int, range]:
    """Return the axis of a slice, and which rows of it."""
    shape = whole.meta["val"].shape
    return axis % len(shape), range(shape[axis])[slice(start, end, step)]
