"""Calls: what a network asks of PyTorch, of values that others stand for, and what is to be computed for it.

PyTorch takes the same call in several forms: `normalised` gives one, and `prepare` the function of the values alone
that it comes to, with its kind.
"""

import weakref
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fragile_utils.saliency.propagation.kinds import (
    ADD,
    CAT,
    DETACH,
    EQUIVALENT,
    IN_PLACE,
    INPUT_LATER,
    KINDS,
    MAX_POOL,
    MULTIPLY,
    SHAPE_ONLY,
    SUBTRACT,
    Kind,
)
from fragile_utils.saliency.propagation.steps import Node


class Traced(Tensor):
    """Stands for a value while the model runs. It has a shape but no memory: nothing can use it without being seen.

    Each function that is called with it goes to its `recording.Recorder`.
    """

    @staticmethod
    def __new__(cls, value: Tensor, node: Node, recorder: Any) -> "Traced":
        traced = Tensor._make_wrapper_subclass(
            cls, value.shape, strides=value.stride(), dtype=value.dtype, device=value.device
        )
        traced.node, traced.recorder = node, recorder
        recorder.stand_ins.append(weakref.ref(traced))
        return traced

    def __repr__(self) -> str:
        return f"<a value of shape {tuple(self.shape)} inside the model>"

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in SHAPE_ONLY:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        return next(traced_in((args, kwargs))).recorder.record(func, args, kwargs)

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        recorder = next(traced_in((args, kwargs or {}))).recorder
        recorder.refused = recorder.refusal(func, "is called where it cannot be traced (TorchScript, for instance)")
        raise recorder.refused


class FunctionCall(NamedTuple):
    """A function that the model calls, in the one form of the several that PyTorch takes."""

    function: Callable  # out of place, where it has such a form
    args: tuple  # the input first
    kwargs: dict[str, Any]
    in_place: bool
    traced: list[Traced]  # what stands for values among the arguments


class Prepared(NamedTuple):
    """What is computed: a function of the values in a call alone, and of the weights if it has any."""

    kind: Kind
    nodes: list[Node]  # of the values
    given: tuple[tuple, dict[str, Any]] | None  # the arguments, with nodes for values
    compute: Callable
    weights: tuple
    options: dict[str, Any]  # of a layer with weights


def normalised(function: Callable, args: tuple, kwargs: dict[str, Any]) -> FunctionCall:
    kwargs = dict(kwargs)
    args = (kwargs.pop("input"), *args) if "input" in kwargs and function not in INPUT_LATER else args
    in_place = kwargs.pop("inplace", False) or function in IN_PLACE or works_in_place(function)
    return FunctionCall(IN_PLACE.get(function, function), args, kwargs, in_place, list(traced_in((args, kwargs))))


def _kind(call: FunctionCall) -> Kind:
    """Return the kind of step that a call is."""
    function, args, kwargs, _, traced = call
    if not torch.is_grad_enabled() or function in DETACH or not any(leaf.node.differentiable for leaf in traced):
        return Kind.DETACHED
    if function not in KINDS or not all(leaf.node.differentiable for leaf in traced):
        return Kind.GENERAL
    if function in ADD | SUBTRACT and len(traced) == 2:
        return Kind.COMBINE
    first = (args and args[0] is traced[0]) or function in ADD | SUBTRACT | MULTIPLY
    odd = kwargs.get("rounding_mode") is not None or kwargs.get("return_indices")
    if function is F.pad and kwargs.get("mode", "constant") != "constant":
        return Kind.COMBINE  # copies of values
    if function is F.pad and kwargs.get("value"):
        odd = True
    if function in MAX_POOL and traced[0].ndim != 4:
        odd = True
    if odd or (function not in CAT and (len(traced) > 1 or not first)):
        return Kind.GENERAL
    return KINDS[function]


def prepare(call: FunctionCall) -> Prepared:
    """Return what is to be computed for a call."""
    kind, (function, args, kwargs, in_place, traced) = _kind(call), call
    nodes = list(dict.fromkeys(leaf.node for leaf in traced))
    given: Any = replaced((args, kwargs), lambda leaf: leaf.node)
    if kind is Kind.WEIGHTED:
        names = ("weight", "bias", "stride", "padding", "dilation", "groups")
        options = dict(zip(names, args[1:], strict=False)) | kwargs
        weights = (options.pop("weight"), options.pop("bias", None))
        layer = F.linear if function is F.linear else torch.conv2d
        return Prepared(kind, nodes, given, lambda x, w, b: layer(x, w, b, **options), weights, options)
    positional, named = given
    if kind is Kind.MAX_POOL:
        function = F.adaptive_max_pool2d if function is F.adaptive_max_pool2d else F.max_pool2d
        named = named | {"return_indices": True}
    if function not in (Tensor.view,) or not any(isinstance(arg, torch.dtype) for arg in (*args, *kwargs.values())):
        function = EQUIVALENT.get(function, function)
    copy = in_place and works_in_place(function)

    def compute(*values: Tensor) -> Any:
        known = dict(zip(nodes, values, strict=True))
        args, kwargs = replaced((positional, named), known.get, Node)
        return function(args[0].clone(), *args[1:], **kwargs) if copy else function(*args, **kwargs)

    return Prepared(kind, nodes, given, compute, (), {})


def works_in_place(function: Callable) -> bool:
    """Return whether a function changes its first argument, by its name."""
    name = getattr(function, "__name__", "")
    return (name.endswith("_") and not name.endswith("__")) or name in _IN_PLACE_OPERATORS


_IN_PLACE_OPERATORS = {
    *(f"__i{name}__" for name in ("add", "sub", "mul", "div", "truediv", "floordiv", "mod", "pow")),
    *(f"__i{name}__" for name in ("and", "or", "xor", "lshift", "rshift")),
}


# --- Trees of arguments ----------------------------------------------------------------------------------------------


def replaced(tree: Any, by: Callable, kind: type = Traced) -> Any:
    """Return nested tuples, lists and dicts with each instance of `kind` in them replaced."""
    if isinstance(tree, kind):
        return by(tree)
    if isinstance(tree, dict):
        return {key: replaced(value, by, kind) for key, value in tree.items()}
    if not isinstance(tree, (tuple, list)):
        return tree
    values = [replaced(value, by, kind) for value in tree]
    return values if isinstance(tree, list) else tuple(values)


def tensors(tree: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested tuples, lists and dicts."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, (tuple, list, dict)):
        for value in tree.values() if isinstance(tree, dict) else tree:
            yield from tensors(value)


def traced_in(tree: Any) -> Iterator[Traced]:
    return (leaf for leaf in tensors(tree) if isinstance(leaf, Traced))
