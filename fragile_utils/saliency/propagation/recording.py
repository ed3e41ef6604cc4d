"""Recording: what the functions of PyTorch compute of a value is computed, and written down as steps.

While a model runs on a `Traced` image, each function that touches the image comes to the `Recorder`.
"""

import inspect
import sys
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import CodeType, FrameType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from fragile_utils._base import precision
from fragile_utils._base.geometry import pair
from fragile_utils.saliency.propagation.calls import (
    FunctionCall,
    Prepared,
    Traced,
    normalised,
    prepare,
    replaced,
    tensors,
    traced_in,
)
from fragile_utils.saliency.propagation.kinds import (
    DETACH,
    DROPOUT,
    KEEP_POSITIVE,
    LIKE,
    NEW,
    POSITIVE,
    RANDOM,
    SEVERAL_VIEWS,
    VIEWS,
    Kind,
)
from fragile_utils.saliency.propagation.steps import Node, Step, Untraceable, name_of


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
        call = normalised(function, args, kwargs)
        if call.function in DROPOUT and not (call.kwargs.get("training", True) and call.kwargs.get("p", 1)):
            return call.traced[0]
        if call.function is torch.broadcast_tensors:
            shape = torch.broadcast_shapes(*(tensor.shape for tensor in tensors(call.args)))
            return tuple(tensor.expand(shape) for tensor in tensors(call.args))
        self._check(call)
        if call.function in NEW or (call.function in LIKE and call.args[0] is not call.traced[0]):
            args, kwargs = replaced((call.args, call.kwargs), lambda leaf: self.values[leaf.node])
            return call.function(*args, **kwargs)
        call = self._with_numbers_as_padding(call)
        prepared = prepare(call)
        value = self._computed(call, prepared)
        if isinstance(value, (tuple, list)):
            items = (prepared._replace(compute=_item_of(prepared.compute, i), given=None) for i in range(len(value)))
            return type(value)([self._written_down(call, item, part) for item, part in zip(items, value, strict=True)])
        if not isinstance(value, Tensor):
            raise self.refusal(call.function, "asks for values, which differ from image to image")
        result = self._written_down(call, prepared, value)
        if call.in_place:  # whoever holds this tensor sees its new value
            call.traced[0].node = result.node
            return call.traced[0]
        return result

    def _check(self, call: FunctionCall) -> None:
        """Refuse what autograd would not differentiate alone, or what cannot be computed again as it was."""
        function, kwargs, traced = call.function, call.kwargs, call.traced
        if call.in_place and (not call.args or call.args[0] is not traced[0] or traced[0].node.shared):
            raise self.refusal(function, "works in place on memory that is in use elsewhere; use its out-of-place form")
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

    def _with_numbers_as_padding(self, call: FunctionCall) -> FunctionCall:
        """Replace padding="same" or "valid" of a convolution by numbers, uneven ones by a step of their own."""
        if call.function not in (F.conv2d, torch.conv2d):
            return call
        names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
        given = dict(zip(names, call.args, strict=False)) | call.kwargs
        padding = given.get("padding", 0)
        if not isinstance(padding, str):
            return call
        given["padding"] = 0
        if padding == "same":
            kernel, dilation = given["weight"].shape[-2:], pair(given.get("dilation", 1))
            total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
            given["padding"] = tuple(t // 2 for t in total)
            if any(t % 2 for t in total):
                extra = [t % 2 for t in reversed(total)]
                given["input"] = F.pad(given["input"], (0, extra[0], 0, extra[1]))
        args = tuple(given.pop(name) for name in ("input", "weight"))
        return call._replace(args=args, kwargs=given, traced=list(traced_in((args, given))))

    def _computed(self, call: FunctionCall, prepared: Prepared) -> Any:
        """Return the value of a call, which may be several."""
        masks = any(node.dtype in (torch.bool, torch.uint8) for node in prepared.nodes)
        sizes = Sizes(masks) if prepared.kind in (Kind.GENERAL, Kind.DETACHED) else nullcontext()  # others ask for none
        with torch.no_grad(), self.activations, sdpa_kernel(SDPBackend.MATH), sizes:
            value = prepared.compute(*(self.values[node] for node in prepared.nodes), *prepared.weights)
            if prepared.kind is Kind.MAX_POOL:
                value, _ = value
        if getattr(sizes, "by_values", False) or (call.function in SEVERAL_VIEWS and len(prepared.nodes) > 1):
            raise self.refusal(call.function, "gives a size that depends on values")
        return value

    def _written_down(self, call: FunctionCall, prepared: Prepared, value: Any) -> Any:
        """Write a step down, and return what stands for its value."""
        if not isinstance(value, Tensor):
            return value
        if value.is_complex():
            raise self.refusal(call.function, "gives complex numbers, which cannot be traced")
        kind, nodes, given, compute, weights, options = prepared
        if kind in (Kind.HOMOGENEOUS, Kind.ACTIVATION) and value.shape != nodes[0].shape:
            kind = Kind.GENERAL  # of each value and several constants
        constants = any(not isinstance(tensor, Traced) for tensor in tensors((call.args, call.kwargs)))
        output = Node(value.shape, dtype=value.dtype)
        step = Step(kind, call.function, self.layer(), nodes, output, compute, weights, options, constants, given)
        self._describe(step, value, "alpha" in call.kwargs)
        self.steps.append(step)
        return Traced(value, self.known(value, output), self)

    def _describe(self, step: Step, value: Tensor, with_alpha: bool) -> None:
        """Note what is known of the output of a step."""
        output, nodes, kind, function = step.output, step.inputs, step.kind, step.function
        output.step = step
        output.differentiable = kind is not Kind.DETACHED and value.is_floating_point()
        output.pixels = kind in (Kind.REARRANGE, Kind.CONSTANT) and all(node.pixels for node in nodes)
        kept = function in KEEP_POSITIVE and kind is not Kind.CONSTANT and not (step.constants or with_alpha)
        output.positive = function in POSITIVE or (kept and all(node.positive for node in nodes))
        if function in VIEWS | SEVERAL_VIEWS | DETACH or (
            kind is Kind.GENERAL and any(_same_memory(value, self.values[node]) for node in nodes)
        ):
            output.shared = True
            for node in nodes:
                node.shared = True


def _code_of_custom_functions() -> set[CodeType | None]:
    """Return the code of the forward passes of all classes of autograd.Function, which runs on values alone."""
    classes = [torch.autograd.Function]
    for known in classes:
        classes += known.__subclasses__()
    return {getattr(inspect.unwrap(known.forward), "__code__", None) for known in classes}


def _same_memory(a: Tensor, b: Tensor) -> bool:
    return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()


def _item_of(call: Callable, i: int) -> Callable:
    return lambda *values: call(*values)[i]
