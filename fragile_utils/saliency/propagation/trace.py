"""Tracing: one forward pass of any network, written down function by function.

`trace` runs a model on tensors that stand for values, and records each function that touches the image as a `Step`, of
one of seven kinds. Module calls, functional calls, operators and methods are seen alike, since what is seen is the
function of PyTorch that they all end in. ``propagation`` walks back through the steps.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import resolve_name

from fragile_utils._base import checks
from fragile_utils.models.convolution import convolution
from fragile_utils.models.surrogate import Smooth, SoftplusSurrogate

# --- The table: which kind of step each function is, and so which rule it follows ------------------------------------

REARRANGE = "rearrange"  # moves values to other places
CONSTANT = "constant"  # shifts or scales each value by a constant
COMBINE = "combine"  # sums or averages values
WEIGHTED = "weighted"  # convolution, linear layer
HOMOGENEOUS = "homogeneous"  # elementwise, with f(z) = f'(z) z: ReLU, leaky ReLU
ACTIVATION = "activation"  # any other elementwise function
MAX_POOL = "max_pool"

_T = Tensor
RELU = {F.relu, torch.relu, _T.relu}
_VIEWS = {  # the output may share the memory of the input
    *(torch.flatten, _T.flatten, _T.view, _T.view_as, torch.reshape, _T.reshape, torch.permute, _T.permute),
    *(torch.transpose, _T.transpose, torch.squeeze, _T.squeeze, torch.unsqueeze, _T.unsqueeze, _T.contiguous),
    _T.__getitem__,
}
CAT = {torch.cat, torch.concat}
_ADD = {torch.add, _T.add}
_SUBTRACT = {torch.sub, _T.sub, _T.__rsub__}
_MULTIPLY = {torch.mul, _T.mul}
_DIVIDE = {torch.div, _T.div}
_AVERAGE = {torch.mean, _T.mean, torch.sum, _T.sum, F.avg_pool2d, F.adaptive_avg_pool2d}
_MAX_POOL = {F.max_pool2d, torch.max_pool2d, F.adaptive_max_pool2d}
_KINDS: dict[Callable, str] = {
    **dict.fromkeys((*_VIEWS, *CAT, torch.flip, _T.flip, F.pad), REARRANGE),
    **dict.fromkeys((*_MULTIPLY, *_DIVIDE, torch.neg, _T.neg, F.batch_norm), CONSTANT),
    **dict.fromkeys((*_ADD, *_SUBTRACT), CONSTANT),  # COMBINE, when both terms depend on the image
    **dict.fromkeys(_AVERAGE, COMBINE),
    **dict.fromkeys((F.conv2d, F.linear), WEIGHTED),
    **dict.fromkeys((*RELU, F.leaky_relu), HOMOGENEOUS),
    **dict.fromkeys((torch.sigmoid, _T.sigmoid, torch.tanh, _T.tanh, F.softplus, F.relu6, F.hardtanh), ACTIVATION),
    **dict.fromkeys((F.gelu, F.silu, F.mish, F.elu, F.selu, F.celu, F.hardswish, F.hardsigmoid), ACTIVATION),
    **dict.fromkeys(_MAX_POOL, MAX_POOL),
}
_IN_PLACE: dict[Callable, Callable] = {  # and the same function out of place
    **dict.fromkeys((torch.relu_, _T.relu_, F.relu_), torch.relu),
    **dict.fromkeys((torch.sigmoid_, _T.sigmoid_), torch.sigmoid),
    **dict.fromkeys((torch.tanh_, _T.tanh_), torch.tanh),
    **{F.leaky_relu_: F.leaky_relu, F.elu_: F.elu, F.hardtanh_: F.hardtanh},
    **{_T.add_: torch.add, _T.sub_: torch.sub, _T.mul_: torch.mul, _T.div_: torch.div},
}
_POSITIVE = RELU | {torch.sigmoid, _T.sigmoid, F.softplus}  # have no values below 0
_KEEP_POSITIVE = _VIEWS | CAT | _ADD | _AVERAGE | _MAX_POOL  # give none below 0 when they are given none
_DROPOUT = {F.dropout, F.dropout2d, F.alpha_dropout, F.feature_alpha_dropout}
_SOFTMAX = {F.softmax, torch.softmax, _T.softmax, F.log_softmax, torch.log_softmax, _T.log_softmax}
_SHAPE_ONLY = {  # what may be asked of a value without computing with it
    *(_T.size, _T.dim, _T.numel, _T.nelement, _T.__len__, _T.is_floating_point, _T.is_contiguous, _T.stride),
    *(getattr(_T, name).__get__ for name in ("shape", "ndim", "dtype", "device", "layout", "is_cuda", "requires_grad")),
}


# --- Recording a forward pass ----------------------------------------------------------------------------------------


@dataclass(eq=False)
class Node:
    """A value that depends on the image: the image itself, or the output of a step."""

    value: Tensor
    step: "Step | None" = None  # which computed it
    pixels: bool = False  # the image, also after normalisation by constants: one value for one value of the image
    positive: bool = False  # known to have no value below 0
    shared: bool = False  # its memory may be another node's


@dataclass(eq=False)
class Step:
    """One function of the network: ``output.value = call(*arguments)``, one argument for each of `inputs`."""

    kind: str
    function: Callable
    layer: str
    inputs: list[Node]
    arguments: list[Tensor]  # the values of `inputs`, as tensors that autograd sees in this step only
    call: Callable[..., Any]  # `call(x, weight, bias)` if the step is WEIGHTED
    output: Node
    weights: tuple[Tensor, Tensor | None] = ()
    options: dict[str, Any] = field(default_factory=dict)  # of a WEIGHTED step: stride, padding, ...
    indices: Tensor | None = None  # of a MAX_POOL step: where in its plane each maximum is
    reference: "Step | None" = None  # the same step of the pass on the reference

    def __str__(self) -> str:
        return f"{self.layer} ({resolve_name(self.function)})"


@dataclass(eq=False)
class Trace:
    """One forward pass: its steps in order, and how activations are computed in it."""

    image: Node
    end: Node  # its value: the logits (N, classes)
    steps: list[Step]
    activations: AbstractContextManager


class Untraceable(ValueError):
    """The model computes what has no rule."""


def trace(model: nn.Module, images: Tensor) -> Trace:
    """Run `model` on `images` (N, 3, H, W) and return the steps that depend on them.

    A `SoftplusSurrogate` is traced as the network inside it, with softplus in place of ReLU. Values are computed out of
    place, with a graph back to `images` when those require one. Nothing is left changed, in the model or elsewhere.

    Raises
    ------
    ValueError
        If the model is in training mode, or (`Untraceable`) TorchScript or computes what has no rule; the layer is
        named.
    """
    checks.evaluation_mode(model)
    activations: AbstractContextManager = nullcontext()
    if isinstance(model, SoftplusSurrogate):
        activations, model = nullcontext() if math.isinf(model.beta) else Smooth(model.beta), model.model
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule) or hasattr(module, "_orig_mod"):  # scripted or compiled
            got = "TorchScript" if isinstance(module, torch.jit.ScriptModule) else "the result of torch.compile"
            raise Untraceable(f"{name or 'model'}: expected a plain module, got {got}, which cannot be traced")
        if isinstance(module, SoftplusSurrogate):
            raise ValueError(f"{name}: a softplus surrogate inside another model; make one of the whole model")
    recorder = _Recorder(activations)
    image = Node(images, pixels=True)
    handles = []
    try:
        for name, module in model.named_modules():
            handles.append(module.register_forward_pre_hook(recorder.enter(name or type(module).__name__)))
            handles.append(module.register_forward_hook(recorder.leave))
        logits = model(_Traced(image, recorder))
    except RuntimeError as error:  # TorchScript turns the refusal into one of its own
        raise recorder.refused or error from None
    finally:
        for handle in handles:
            handle.remove()
    if not isinstance(logits, _Traced):
        raise ValueError(f"model: expected logits computed from the images, got {type(logits).__name__}")
    if logits.node.pixels:
        raise ValueError("model: expected layers between the images and the logits, got none")
    return Trace(image, logits.node, recorder.steps, activations)


class _Traced(Tensor):
    """Stands for a value while the model runs. It has a shape but no memory: nothing can use it without being seen."""

    @staticmethod
    def __new__(cls, node: Node, recorder: "_Recorder") -> "_Traced":
        value = node.value
        traced = Tensor._make_wrapper_subclass(
            cls, value.shape, strides=value.stride(), dtype=value.dtype, device=value.device
        )
        traced.node, traced.recorder = node, recorder
        return traced

    def __repr__(self) -> str:
        return f"<a value of shape {tuple(self.shape)} inside the model>"

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in _SHAPE_ONLY:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        return next(_traced((args, kwargs))).recorder.record(func, args, kwargs)

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        recorder = next(_traced((args, kwargs or {}))).recorder
        recorder.refused = recorder.refusal(func, "is called where it cannot be traced (.data, TorchScript)")
        raise recorder.refused


class _Recorder:
    """Computes what the model asks for, and writes it down."""

    def __init__(self, activations: AbstractContextManager) -> None:
        self.activations = activations
        self.steps: list[Step] = []
        self.layers: list[str] = []  # the modules that are running, the innermost last
        self.refused: ValueError | None = None

    def enter(self, layer: str) -> Callable:
        return lambda module, args: self.layers.append(layer)

    def leave(self, module: nn.Module, args: Any, output: Any) -> None:
        self.layers.pop()

    def refusal(self, function: Callable, why: str) -> ValueError:
        return Untraceable(f"{self.layers[-1]}: {resolve_name(function) or function} {why}")

    def record(self, function: Callable, args: tuple, kwargs: dict[str, Any]) -> _Traced:
        kwargs = dict(kwargs)
        args = (kwargs.pop("input"), *args) if "input" in kwargs else args
        in_place = kwargs.pop("inplace", False) or function in _IN_PLACE
        function = _IN_PLACE.get(function, function)
        traced = list(_traced((args, kwargs)))
        if in_place and (args[0] is not traced[0] or traced[0].node.shared):
            raise self.refusal(function, "works in place on memory that is in use elsewhere; use its out-of-place form")
        if function in _DROPOUT and not kwargs.get("training", True):
            return traced[0]
        kind = self._kind(function, args, kwargs, traced)

        nodes = list(dict.fromkeys(leaf.node for leaf in traced))
        call, weights, options = _prepare(kind, function, args, kwargs)
        with torch.enable_grad(), self.activations:
            arguments = [node.value.view_as(node.value) for node in nodes]
            value, indices = call(*arguments, *weights), None
            if kind == MAX_POOL:
                value, indices = value
        output = Node(value, pixels=kind in (REARRANGE, CONSTANT) and all(node.pixels for node in nodes))
        kept = function in _KEEP_POSITIVE and kind != CONSTANT and "alpha" not in kwargs
        kept = kept and all(node.positive for node in nodes) and len(traced) == len(list(_tensors((args, kwargs))))
        output.positive = function in _POSITIVE or kept
        output.step = Step(kind, function, self.layers[-1], nodes, arguments, call, output, weights, options, indices)
        self.steps.append(output.step)
        if function in _VIEWS:
            output.shared = nodes[0].shared = True
        if in_place:  # whoever holds this tensor sees its new value
            traced[0].node = output
            return traced[0]
        return _Traced(output, self)

    def _kind(self, function: Callable, args: tuple, kwargs: dict[str, Any], traced: list[_Traced]) -> str:
        """Return the kind of step that this call is, or refuse it."""
        if function in _SOFTMAX:
            raise self.refusal(function, "is inside the model: expected logits, before any softmax")
        if function not in _KINDS:
            raise self.refusal(function, "has no propagation rule")
        if function is F.batch_norm and kwargs.get("training"):
            raise self.refusal(function, "uses the statistics of the batch: expected running statistics")
        if function is F.pad and (kwargs.get("mode", "constant") != "constant" or kwargs.get("value")):
            raise self.refusal(function, "has a propagation rule for padding with zeros only")
        if kwargs.get("out") is not None or kwargs.get("rounding_mode") is not None:
            raise self.refusal(function, "has no propagation rule with out= or rounding_mode=")
        if function in _ADD | _SUBTRACT and len(traced) == 2:
            return COMBINE
        first = args[0] is traced[0] or function in _ADD | _SUBTRACT | _MULTIPLY
        if function not in CAT and (len(traced) > 1 or not first):
            raise self.refusal(function, "combines values of the image in a way that has no propagation rule")
        return _KINDS[function]


def _prepare(kind: str, function: Callable, args: tuple, kwargs: dict[str, Any]) -> tuple[Callable, tuple, dict]:
    """Return the call as a function of the values in it alone, and of the weights if it has any; these; its options."""
    if kind == WEIGHTED:
        names = ("weight", "bias", "stride", "padding", "dilation", "groups")
        options = dict(zip(names, args[1:], strict=False)) | kwargs
        weights = (options.pop("weight"), options.pop("bias", None))
        layer = convolution if function is F.conv2d else F.linear
        return lambda x, weight, bias: layer(x, weight, bias, **options), weights, options
    if kind == MAX_POOL:
        function = F.adaptive_max_pool2d if function is F.adaptive_max_pool2d else F.max_pool2d
        kwargs = kwargs | {"return_indices": True}
    call = _replace((args, kwargs), lambda leaf: leaf.node)
    nodes = list(dict.fromkeys(leaf.node for leaf in _traced((args, kwargs))))

    def closed(*values: Tensor) -> Any:
        given = dict(zip(nodes, values, strict=True))
        args, kwargs = _replace(call, given.get, Node)
        return function(*args, **kwargs)

    return closed, (), {}


def _replace(tree: Any, by: Callable, kind: type = _Traced) -> Any:
    """Return nested tuples, lists and dicts with each instance of `kind` in them replaced."""
    if isinstance(tree, kind):
        return by(tree)
    if isinstance(tree, dict):
        return {key: _replace(value, by, kind) for key, value in tree.items()}
    return type(tree)(_replace(value, by, kind) for value in tree) if type(tree) in (tuple, list) else tree


def _tensors(tree: Any) -> Iterator[Tensor]:
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, (tuple, list, dict)):
        for value in tree.values() if isinstance(tree, dict) else tree:
            yield from _tensors(value)


def _traced(tree: Any) -> Iterator[_Traced]:
    return (leaf for leaf in _tensors(tree) if isinstance(leaf, _Traced))
