"""From a function of tensors to a graph of functions of PyTorch that change nothing in place."""

from collections.abc import Callable, Container

import torch
from torch import Tensor
from torch._decomp import decomposition_table
from torch.func import functionalize
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx

aten = torch.ops.aten


def traced(function: Callable[..., tuple[Tensor, ...]], arguments: tuple[Tensor, ...], kept: Container) -> GraphModule:
    """Return the graph of what `function` computes, derivatives included, for arguments of these shapes.

    A first pass writes down what runs; a second one takes what works in place out of place, and whatever is not in
    `kept` apart into simpler functions, as far as PyTorch says how.

    Raises
    ------
    ValueError
        If what is computed depends on values, by a condition for instance.
    """
    function(*arguments)  # what is computed once and remembered, such as the steps of a network, is no part of it
    simpler = {name: written for name, written in decomposition_table.items() if name not in kept}
    try:
        graph = make_fx(lambda *x: function(*x))(*arguments)
        graph = make_fx(functionalize(graph), decomposition_table=simpler)(*arguments)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"model: expected one that computes the same for every image, got {reason}") from error
    _read_what_was_written(graph)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph


def _read_what_was_written(graph: GraphModule) -> None:
    """Let a slice of what has had another slice replaced read that slice, or what was there before.

    A change in place of a slice is a copy of the whole out of place, and a slice of that copy; often nobody needs the
    copy.
    """
    for node in graph.graph.nodes:
        if node.target is not aten.slice.Tensor:
            continue
        while isinstance(whole := node.args[0], Node) and whole.target is aten.slice_scatter.default:
            read, written = _rows(node.args, node.args[0]), _rows((whole.args[0], *whole.args[2:]), whole)
            if read is not None and read == written:
                node.replace_all_uses_with(whole.args[1])
                break
            if read is None or written is None or read[0] != written[0] or not _apart(read[1], written[1]):
                break
            node.args = (whole.args[0], *node.args[1:])


def _rows(arguments: tuple, whole: Node) -> tuple[int, range] | None:
    """Return the axis of a slice, and which rows of it; None where the shape is not known."""
    _, axis, start, end, step = (*arguments, *(None, 0, None, None, 1)[len(arguments) :])
    value = whole.meta.get("val")
    if not isinstance(value, Tensor):
        return None
    size = value.shape[axis]
    return axis % value.ndim, range(size)[slice(start, end, step)]


def _apart(a: range, b: range) -> bool:
    return not a or not b or a[-1] < b[0] or b[-1] < a[0]
