"""Recording: what the functions of PyTorch compute of a value is computed, and written down as steps.

While a model runs on a `Traced` image, each function that touches the image comes to the `Recorder`.
"""

import inspect
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from types import CodeType, FrameType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from fragile_utils._base import precision
from fragile_utils.models.convolution import pairs
from fragile_utils.saliency.propagation.kinds import (
    ADD,
    CAT,
    DETACH,
    DROPOUT,
    EQUIVALENT,
    IN_PLACE,
    INPUT_LATER,
    KEEP_POSITIVE,
    KINDS,
    LIKE,
    MAX_POOL,
    MULTIPLY,
    NEW,
    POSITIVE,
    RANDOM,
    SEVERAL_VIEWS,
    SHAPE_ONLY,
    SUBTRACT,
    VIEWS,
    Kind,
)
from fragile_utils.saliency.propagation.steps import Node, Step, Untraceable, name_of


class Traced(Tensor):
    """Stands for a value while the model runs. It has a shape but no memory: nothing can use it without being seen."""

    @staticmethod
    def __new__(cls, value: Tensor, node: Node, recorder: "Recorder") -> "Traced":
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
        return next(_traced((args, kwargs))).recorder.record(func, args, kwargs)

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        recorder = next(_traced((args, kwargs or {}))).recorder
        recorder.refused = recorder.refusal(func, "is called where it cannot be traced (TorchScript, for instance)")
        raise recorder.refused


class Sizes(TorchDispatchMode):
    """Sees whether a function computes something of which the size depends on values: in an index, those of `masks`."""

    def __init__(self, masks: bool) -> None:
        super().__init__()
        self.masks, self.by_values = masks, False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if torch.Tag.dynamic_output_shape in func.tags and (self.masks or func is not torch.ops.aten.index.Tensor):
            self.by_values = True
        return func(*args, **(kwargs or {}))


class Recorder:
    """Computes what the model asks for, and writes it down."""

    def __init__(self, model: nn.Module, activations: AbstractContextManager, device: torch.device) -> None:
        self.activations = activations
        self.device, self.autocast = device, precision.autocast(device)
        self.stand_ins: list[weakref.ref[Traced]] = []
        self.names = {id(module): name or type(module).__name__ for name, module in model.named_modules()}
        self.custom = _code_of_custom_functions()
        self.values: dict[Node, Tensor] = {}
        self.steps: list[Step] = []
        self.refused: ValueError | None = None
        self.outermost = sys._getframe(1).f_code  # of whoever records, beyond which no module is asked for its name

    def known(self, value: Tensor, node: Node) -> Node:
        self.values[node] = value
        return node

    def is_held(self) -> bool:
        """Return whether somebody has kept what stands for a value."""
        return any(traced() is not None for traced in self.stand_ins)

    def layer(self) -> str:
        """Return the name of the module that is running: the innermost whose method is on the stack."""
        named = (self.names.get(id(frame.f_locals.get("self"))) for frame in self._running())
        return next((name for name in named if name is not None), "model")

    def _running(self) -> list[FrameType]:
        """Return what is running, from the caller's caller to whoever records: no frame that would hold the list."""
        frame, found = sys._getframe(2), []
        while frame is not None and frame.f_code is not self.outermost:
            found.append(frame)
            frame = frame.f_back
        return found

    def refusal(self, function: Callable, why: str) -> ValueError:
        return Untraceable(f"{self.layer()}: {name_of(function)} {why}")

    def record(self, function: Callable, args: tuple, kwargs: dict[str, Any]) -> Any:
        """Compute a function of values that stand for others, write it down, and return what stands for the result."""
        kwargs = dict(kwargs)
        args = (kwargs.pop("input"), *args) if "input" in kwargs and function not in INPUT_LATER else args
        in_place = kwargs.pop("inplace", False) or function in IN_PLACE or _works_in_place(function)
        function = IN_PLACE.get(function, function)
        traced = list(_traced((args, kwargs)))
        if function in DROPOUT and not (kwargs.get("training", True) and kwargs.get("p", 1)):
            return traced[0]
        if function is torch.broadcast_tensors:
            shape = torch.broadcast_shapes(*(tensor.shape for tensor in tensors(args)))
            return tuple(tensor.expand(shape) for tensor in tensors(args))
        if in_place and (not args or args[0] is not traced[0] or traced[0].node.shared):
            raise self.refusal(function, "works in place on memory that is in use elsewhere; use its out-of-place form")
        self._check(function, args, kwargs, traced)
        if function in NEW or (function in LIKE and args[0] is not traced[0]):
            args, kwargs = replaced((args, kwargs), lambda leaf: self.values[leaf.node])
            return function(*args, **kwargs)
        args, kwargs = self._with_numbers_as_padding(function, args, kwargs)
        if function in (F.conv2d, torch.conv2d) and args[0] is not traced[0]:  # padded by a step of its own
            traced = list(_traced((args, kwargs)))
        kind = self._kind(function, args, kwargs, traced)
        nodes = list(dict.fromkeys(leaf.node for leaf in traced))
        call, weights, options = _prepare(kind, function, args, kwargs, in_place)
        others = [t for t in tensors((args, kwargs)) if not isinstance(t, Traced)]
        given: Any = replaced((args, kwargs), lambda leaf: leaf.node)
        masks = any(node.dtype in (torch.bool, torch.uint8) for node in nodes)
        sizes = Sizes(masks) if kind in (Kind.GENERAL, Kind.DETACHED) else nullcontext()  # others ask for no values
        with torch.no_grad(), self.activations, sdpa_kernel(SDPBackend.MATH), sizes:
            value = call(*(self.values[node] for node in nodes), *weights)
            if kind is Kind.MAX_POOL:
                value, _ = value
        if getattr(sizes, "by_values", False) or (function in SEVERAL_VIEWS and len(nodes) > 1):
            raise self.refusal(function, "gives a size that depends on values")
        if kind in (Kind.HOMOGENEOUS, Kind.ACTIVATION) and value.shape != nodes[0].shape:
            kind = Kind.GENERAL  # of each value and several constants

        def made(value: Any, call: Callable) -> Any:
            if not isinstance(value, Tensor):
                return value
            if value.is_complex():
                raise self.refusal(function, "gives complex numbers, which cannot be traced")
            output = Node(value.shape, dtype=value.dtype)
            step = Step(kind, function, self.layer(), nodes, output, call, weights, options, bool(others), given)
            self._describe(step, value, traced, others, kwargs)
            self.steps.append(step)
            return Traced(value, self.known(value, step.output), self)

        if isinstance(value, (tuple, list)):
            given = None
            return type(value)([made(part, _item_of(call, i)) for i, part in enumerate(value)])
        if not isinstance(value, Tensor):
            raise self.refusal(function, "asks for values, which differ from image to image")
        result = made(value, call)
        if in_place:  # whoever holds this tensor sees its new value
            traced[0].node = result.node
            return traced[0]
        return result

    def _check(self, function: Callable, args: tuple, kwargs: dict[str, Any], traced: list[Traced]) -> None:
        if any(leaf.node.differentiable for leaf in traced) and any(f.f_code in self.custom for f in self._running()):
            raise self.refusal(function, "is called by an autograd.Function, which has a derivative of its own")
        if precision.autocast(self.device) != self.autocast:
            raise self.refusal(function, "is called within autocast, or out of it, in a part of the model alone")
        if function in DROPOUT or (function in RANDOM and kwargs.get("training", True)):
            raise self.refusal(function, "draws random numbers in evaluation mode")
        if kwargs.get("out") is not None or function is Tensor.__setitem__:
            raise self.refusal(function, "writes into memory that is in use elsewhere; use its out-of-place form")
        if function is F.batch_norm and kwargs.get("training"):
            raise self.refusal(function, "uses the statistics of the batch: expected running statistics")

    def _with_numbers_as_padding(self, function: Callable, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        """Replace padding="same" or "valid" of a convolution by numbers, uneven ones by a step of their own."""
        if function not in (F.conv2d, torch.conv2d):
            return args, kwargs
        names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
        given = dict(zip(names, args, strict=False)) | kwargs
        padding = given.get("padding", 0)
        if not isinstance(padding, str):
            return args, kwargs
        given["padding"] = 0
        if padding == "same":
            (dilation,) = pairs(given.get("dilation", 1))
            total = [d * (k - 1) for d, k in zip(dilation, given["weight"].shape[-2:], strict=True)]
            given["padding"] = tuple(t // 2 for t in total)
            if any(t % 2 for t in total):
                extra = [t % 2 for t in reversed(total)]
                given["input"] = F.pad(given["input"], (0, extra[0], 0, extra[1]))
        return tuple(given.pop(name) for name in ("input", "weight")), given

    def _describe(self, step: Step, value: Tensor, traced: list, others: list[Tensor], kwargs: dict[str, Any]) -> None:
        """Note what is known of the output of a step."""
        output, nodes, kind, function = step.output, step.inputs, step.kind, step.function
        output.step = step
        output.differentiable = kind is not Kind.DETACHED and value.is_floating_point()
        output.pixels = kind in (Kind.REARRANGE, Kind.CONSTANT) and all(node.pixels for node in nodes)
        kept = function in KEEP_POSITIVE and kind is not Kind.CONSTANT and "alpha" not in kwargs
        output.positive = function in POSITIVE or (kept and not others and all(node.positive for node in nodes))
        if function in VIEWS | SEVERAL_VIEWS | DETACH or (
            kind is Kind.GENERAL and any(_same_memory(value, self.values[node]) for node in nodes)
        ):
            output.shared = True
            for node in nodes:
                node.shared = True

    def _kind(self, function: Callable, args: tuple, kwargs: dict[str, Any], traced: list[Traced]) -> Kind:
        """Return the kind of step that this call is."""
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


def _code_of_custom_functions() -> set[CodeType | None]:
    """Return the code of the forward passes of all classes of autograd.Function, which runs on values alone."""
    classes = [torch.autograd.Function]
    for known in classes:
        classes += known.__subclasses__()
    return {getattr(inspect.unwrap(known.forward), "__code__", None) for known in classes}


def _works_in_place(function: Callable) -> bool:
    name = getattr(function, "__name__", "")
    return (name.endswith("_") and not name.endswith("__")) or (name.startswith("__i") and name in _IN_PLACE_OPERATORS)


_IN_PLACE_OPERATORS = {
    f"__i{name}__" for name in ("add", "sub", "mul", "truediv", "floordiv", "pow", "and", "or", "xor")
}


def _same_memory(a: Tensor, b: Tensor) -> bool:
    return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()


def _item_of(call: Callable, i: int) -> Callable:
    return lambda *values: call(*values)[i]


def _prepare(
    kind: Kind, function: Callable, args: tuple, kwargs: dict[str, Any], in_place: bool
) -> tuple[Callable, tuple, dict]:
    """Return the call as a function of the values in it alone, and of the weights if it has any; these; its options."""
    if kind is Kind.WEIGHTED:
        names = ("weight", "bias", "stride", "padding", "dilation", "groups")
        options = dict(zip(names, args[1:], strict=False)) | kwargs
        weights = (options.pop("weight"), options.pop("bias", None))
        layer = F.linear if function is F.linear else torch.conv2d
        return lambda x, weight, bias: layer(x, weight, bias, **options), weights, options
    if kind is Kind.MAX_POOL:
        function = F.adaptive_max_pool2d if function is F.adaptive_max_pool2d else F.max_pool2d
        kwargs = kwargs | {"return_indices": True}
    if function not in (Tensor.view,) or not any(isinstance(arg, torch.dtype) for arg in (*args, *kwargs.values())):
        function = EQUIVALENT.get(function, function)
    call = replaced((args, kwargs), lambda leaf: leaf.node)
    nodes = list(dict.fromkeys(leaf.node for leaf in _traced((args, kwargs))))
    copy = in_place and _works_in_place(function)

    def closed(*values: Tensor) -> Any:
        given = dict(zip(nodes, values, strict=True))
        args, kwargs = replaced(call, given.get, Node)
        return function(args[0].clone(), *args[1:], **kwargs) if copy else function(*args, **kwargs)

    return closed, (), {}


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


def _traced(tree: Any) -> Iterator[Traced]:
    return (leaf for leaf in tensors(tree) if isinstance(leaf, Traced))
