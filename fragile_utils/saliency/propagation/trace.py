"""Tracing: one forward pass of any network, written down function by function.

`trace` runs a model on tensors that stand for values, and records each function that touches the image as a `Step`, of
one of nine kinds. Module calls, functional calls, operators and methods are seen alike, since what is seen is the
function of PyTorch that they all end in. ``walks`` goes through the steps, forwards and backwards.
"""

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import resolve_name

from fragile_utils._base import checks
from fragile_utils.models.convolution import convolution, pairs
from fragile_utils.models.surrogate import Smooth, SoftplusSurrogate

# --- The table: which kind of step each function is, and so which rule it follows ------------------------------------


class Kind(Enum):
    """What a step does to the values that depend on the image."""

    REARRANGE = "moves values to other places, or beside constants"
    CONSTANT = "shifts or scales each value by a constant"
    COMBINE = "sums or averages values"
    WEIGHTED = "a convolution or a linear layer"
    HOMOGENEOUS = "elementwise, with f(z) = f'(z) z: ReLU, leaky ReLU"
    ACTIVATION = "any other elementwise function"
    MAX_POOL = "max pooling"
    GENERAL = "anything else that autograd differentiates"
    DETACHED = "cut off from the image: autograd sees a constant"


_T = Tensor
_aten = torch.ops.aten
RELU = {F.relu, torch.relu, _T.relu, _aten.relu, _aten.relu.default}
_VIEWS = {  # the output may share the memory of the input
    *(torch.flatten, _T.flatten, _T.view, _T.view_as, torch.reshape, _T.reshape, torch.permute, _T.permute),
    *(torch.transpose, _T.transpose, torch.squeeze, _T.squeeze, torch.unsqueeze, _T.unsqueeze, _T.contiguous),
    *(torch.narrow, _T.narrow, torch.select, _T.select, _T.expand, _T.expand_as, torch.movedim, _T.movedim),
    *(_T.T.__get__, _T.mT.__get__, _T.t, torch.t, torch.unflatten, _T.unflatten, _T.__getitem__),
}
_SEVERAL_VIEWS = {
    *(torch.chunk, _T.chunk, torch.split, _T.split, torch.unbind, _T.unbind, torch.tensor_split, _T.tensor_split)
}
CAT = {torch.cat, torch.concat, torch.concatenate}
_ADD = {torch.add, _T.add, _T.__add__, _T.__radd__}
_SUBTRACT = {torch.sub, _T.sub, _T.__rsub__}
_MULTIPLY = {torch.mul, _T.mul}
_DIVIDE = {torch.div, _T.div}
_AVERAGE = {torch.mean, _T.mean, torch.sum, _T.sum, F.avg_pool2d, F.adaptive_avg_pool2d}
_LINEAR = {  # with the constants beside them, which come second
    *(F.conv1d, F.conv3d, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d, F.interpolate, F.avg_pool1d),
    *(torch.matmul, _T.matmul, _T.__matmul__, torch.conv1d, torch.conv_transpose2d),
}
_MAX_POOL = {F.max_pool2d, torch.max_pool2d, F.adaptive_max_pool2d}
_ELEMENTWISE = {  # a line here is all that a new activation needs
    *(torch.sigmoid, _T.sigmoid, F.sigmoid, torch.tanh, _T.tanh, F.tanh, F.softplus, F.logsigmoid, F.softsign),
    *(F.gelu, F.silu, F.mish, F.elu, F.selu, torch.selu, F.celu, torch.celu, F.hardswish, F.hardsigmoid, F.tanhshrink),
    *(F.relu6, F.hardtanh, F.threshold, torch.threshold, F.hardshrink, F.softshrink, torch.clamp, _T.clamp),
    *(torch.clamp_min, _T.clamp_min, torch.clamp_max, _T.clamp_max, torch.clip, _T.clip, torch.abs, _T.abs),
    *(torch.exp, _T.exp, torch.square, _T.square, torch.pow, _T.pow, _T.__pow__, torch.sqrt, _T.sqrt),
    *(torch.sin, _T.sin, torch.cos, _T.cos, torch.erf, _T.erf, torch.atan, _T.atan, torch.log1p, _T.log1p),
}
_KINDS: dict[Callable, Kind] = {
    **dict.fromkeys((*_VIEWS, *_SEVERAL_VIEWS, *CAT, torch.flip, _T.flip, torch.roll, _T.roll, F.pad), Kind.REARRANGE),
    **dict.fromkeys((*_MULTIPLY, *_DIVIDE, torch.neg, _T.neg, F.batch_norm), Kind.CONSTANT),
    **dict.fromkeys((*_ADD, *_SUBTRACT), Kind.CONSTANT),  # COMBINE, when both terms depend on the image
    **dict.fromkeys((*_AVERAGE, *_LINEAR), Kind.COMBINE),
    **dict.fromkeys((F.pixel_shuffle, F.pixel_unshuffle, F.channel_shuffle), Kind.REARRANGE),
    **dict.fromkeys((F.conv2d, torch.conv2d, F.linear), Kind.WEIGHTED),
    **dict.fromkeys((*RELU, F.leaky_relu, F.prelu, torch.prelu, _T.prelu), Kind.HOMOGENEOUS),
    **dict.fromkeys(_ELEMENTWISE, Kind.ACTIVATION),
    **dict.fromkeys(_MAX_POOL, Kind.MAX_POOL),
}
_IN_PLACE: dict[Callable, Callable] = {  # and the same function out of place
    **dict.fromkeys((torch.relu_, _T.relu_, F.relu_), torch.relu),
    **dict.fromkeys((torch.sigmoid_, _T.sigmoid_), torch.sigmoid),
    **dict.fromkeys((torch.tanh_, _T.tanh_), torch.tanh),
    **{F.leaky_relu_: F.leaky_relu, F.elu_: F.elu, F.hardtanh_: F.hardtanh},
    **dict.fromkeys((_T.add_, _T.__iadd__), torch.add),
    **dict.fromkeys((_T.sub_, _T.__isub__), torch.sub),
    **dict.fromkeys((_T.mul_, _T.__imul__), torch.mul),
    **dict.fromkeys((_T.div_, _T.__itruediv__), torch.div),
}
_EQUIVALENT: dict[Callable, Callable] = {  # the same values, by functions that are differentiable twice, in any layout
    **{_T.view: _T.reshape, _T.view_as: _T.reshape_as, F.hardsigmoid: lambda x: F.relu6(x + 3) / 6},
}
_POSITIVE = RELU | {torch.sigmoid, _T.sigmoid, F.softplus}  # have no values below 0
_KEEP_POSITIVE = _VIEWS | CAT | _ADD | _AVERAGE | _MAX_POOL  # give none below 0 when they are given none
_DROPOUT = {F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout, torch.dropout}
_RANDOM = {
    *(torch.rand_like, torch.randn_like, torch.randint_like, torch.bernoulli, _T.bernoulli, torch.multinomial),
    *(torch.poisson, torch.normal, F.gumbel_softmax, F.rrelu, torch.rrelu),
}
_DETACH = {_T.detach, torch.detach, _T.data.__get__}
_NEW = {  # constants of the shape, type or device of a value
    *(_T.new_zeros, _T.new_ones, _T.new_full, _T.new_empty, _T.new_tensor),
    *(torch.zeros_like, torch.ones_like, torch.full_like, torch.empty_like),
}
_SHAPE_ONLY = {  # what may be asked of a value without computing with it
    *(_T.size, _T.dim, _T.numel, _T.nelement, _T.__len__, _T.is_floating_point, _T.is_contiguous, _T.stride),
    *(torch.is_floating_point, torch.is_tensor, torch.numel, _T.get_device, _T.is_complex, _T.element_size),
    *(getattr(_T, name).__get__ for name in ("shape", "ndim", "dtype", "device", "layout", "is_cuda", "requires_grad")),
    *(
        getattr(_T, name).__get__
        for name in ("is_mps", "is_sparse", "is_quantized", "is_nested", "is_meta", "itemsize")
    ),
}


# --- What a forward pass consists of ---------------------------------------------------------------------------------


@dataclass(eq=False)
class Node:
    """A value that depends on the image: the image itself, or the output of a step."""

    shape: torch.Size
    differentiable: bool = True  # floating point, and not cut off from the image
    step: "Step | None" = None  # which computed it
    pixels: bool = False  # the image, also after normalisation by constants: one value for one value of the image
    positive: bool = False  # known to have no value below 0
    shared: bool = False  # its memory may be another node's


@dataclass(eq=False)
class Step:
    """One function of the network: ``output = call(*values of the inputs, *weights)``."""

    kind: Kind
    function: Callable
    layer: str
    inputs: list[Node]
    output: Node
    call: Callable[..., Any]  # `call(x, weight, bias)` if the step is WEIGHTED
    weights: tuple[Tensor, Tensor | None] = ()
    options: dict[str, Any] = field(default_factory=dict)  # of a WEIGHTED step: stride, padding, ...
    constants: bool = False  # whether tensors that do not depend on the image take part

    def __str__(self) -> str:
        return f"{self.layer} ({_name(self.function)})"


@dataclass(eq=False)
class Trace:
    """One forward pass: its steps in order, and how activations are computed in it."""

    image: Node
    end: Node  # its value: the logits (N, classes)
    steps: list[Step]
    activations: AbstractContextManager
    beta: float  # of softplus in place of ReLU; infinite for ReLU itself
    live: bool  # whether all constants are parameters and buffers, so that a change of their values is seen


class Untraceable(ValueError):
    """The model computes what has no rule."""


@torch.enable_grad()
def trace(model: nn.Module, images: Tensor) -> Trace:
    """Run `model` on `images` (N, 3, H, W) and return the steps that depend on them.

    A `SoftplusSurrogate` is traced as the network inside it, with softplus in place of ReLU. Nothing is left changed,
    in the model or elsewhere, and no value is kept.

    Raises
    ------
    ValueError
        If the model is in training mode, or (`Untraceable`) computes what autograd does not differentiate alone:
        TorchScript, modules with backward hooks, random numbers. The layer is named.
    """
    checks.evaluation_mode(model)
    beta = math.inf
    if isinstance(model, SoftplusSurrogate):
        beta, model = model.beta, model.model
    activations = nullcontext() if math.isinf(beta) else Smooth(beta)
    _check_modules(model)
    recorder = _Recorder(model, activations)
    image = recorder.known(images.detach(), Node(images.shape, pixels=True))
    try:
        logits = model(_Traced(images, image, recorder))
    except RuntimeError as error:  # TorchScript turns the refusal into one of its own
        raise recorder.refused or error from None
    if not isinstance(logits, _Traced):
        raise ValueError(f"model: expected logits computed from the images, got {type(logits).__name__}")
    if logits.node.pixels:
        raise ValueError("model: expected layers between the images and the logits, got none")
    steps = _needed(recorder.steps, logits.node)
    return Trace(image, logits.node, steps, activations, beta, recorder.live)


def _check_modules(model: nn.Module) -> None:
    """Refuse modules whose derivatives are not those of the functions that they compute."""
    for name, module in model.named_modules():
        name = name or "model"
        if isinstance(module, torch.jit.ScriptModule) or hasattr(module, "_orig_mod"):  # scripted or compiled
            got = "TorchScript" if isinstance(module, torch.jit.ScriptModule) else "the result of torch.compile"
            raise Untraceable(f"{name}: expected a plain module, got {got}, which cannot be traced")
        if isinstance(module, SoftplusSurrogate):
            raise ValueError(f"{name}: a softplus surrogate inside another model; make one of the whole model")
        if module._backward_hooks or module._backward_pre_hooks:
            raise Untraceable(f"{name}: expected no backward hooks, which replace derivatives; remove them")


def _needed(steps: list[Step], end: Node) -> list[Step]:
    """Return the steps that the logits depend on: a function of several outputs is a step for each of them."""
    wanted, kept = {end}, []
    for step in reversed(steps):
        if step.output in wanted:
            wanted.update(step.inputs)
            kept.append(step)
    return kept[::-1]


# --- Recording a forward pass ----------------------------------------------------------------------------------------


class _Traced(Tensor):
    """Stands for a value while the model runs. It has a shape but no memory: nothing can use it without being seen."""

    @staticmethod
    def __new__(cls, value: Tensor, node: Node, recorder: "_Recorder") -> "_Traced":
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
        recorder.refused = recorder.refusal(func, "is called where it cannot be traced (TorchScript, for instance)")
        raise recorder.refused


class _Recorder:
    """Computes what the model asks for, and writes it down."""

    def __init__(self, model: nn.Module, activations: AbstractContextManager) -> None:
        self.activations = activations
        self.names = {id(module): name or type(module).__name__ for name, module in model.named_modules()}
        self.own = {id(tensor) for tensor in (*model.parameters(), *model.buffers())}
        self.values: dict[Node, Tensor] = {}
        self.steps: list[Step] = []
        self.live = True
        self.refused: ValueError | None = None

    def known(self, value: Tensor, node: Node) -> Node:
        self.values[node] = value
        return node

    def layer(self) -> str:
        """Return the name of the module that is running: the innermost whose method is on the stack."""
        frame = sys._getframe(1)
        while frame is not None and frame.f_code is not trace.__wrapped__.__code__:
            if (name := self.names.get(id(frame.f_locals.get("self")))) is not None:
                return name
            frame = frame.f_back
        return "model"

    def refusal(self, function: Callable, why: str) -> ValueError:
        return Untraceable(f"{self.layer()}: {_name(function)} {why}")

    def record(self, function: Callable, args: tuple, kwargs: dict[str, Any]) -> Any:
        """Compute a function of values that stand for others, write it down, and return what stands for the result."""
        kwargs = dict(kwargs)
        args = (kwargs.pop("input"), *args) if "input" in kwargs else args
        in_place = kwargs.pop("inplace", False) or function in _IN_PLACE or _works_in_place(function)
        function = _IN_PLACE.get(function, function)
        traced = list(_traced((args, kwargs)))
        if function in _DROPOUT and not kwargs.get("training", True):
            return traced[0]
        if in_place and (not args or args[0] is not traced[0] or traced[0].node.shared):
            raise self.refusal(function, "works in place on memory that is in use elsewhere; use its out-of-place form")
        self._check(function, args, kwargs)
        if function in _NEW:
            args, kwargs = _replace((args, kwargs), lambda leaf: self.values[leaf.node])
            return function(*args, **kwargs)
        args, kwargs = self._with_numbers_as_padding(function, args, kwargs)
        if function in (F.conv2d, torch.conv2d) and args[0] is not traced[0]:  # padded by a step of its own
            traced = list(_traced((args, kwargs)))
        kind = self._kind(function, args, kwargs, traced)
        nodes = list(dict.fromkeys(leaf.node for leaf in traced))
        call, weights, options = _prepare(kind, function, args, kwargs, in_place)
        others = [t for t in _tensors((args, kwargs)) if not isinstance(t, _Traced)]
        self.live = self.live and all(id(t) in self.own for t in others)
        with torch.no_grad(), self.activations, sdpa_kernel(SDPBackend.MATH):
            value = call(*(self.values[node] for node in nodes), *weights)
            if kind is Kind.MAX_POOL:
                value, _ = value

        def made(value: Any, call: Callable) -> Any:
            if not isinstance(value, Tensor):
                return value
            if value.is_complex():
                raise self.refusal(function, "gives complex numbers, which cannot be traced")
            step = Step(kind, function, self.layer(), nodes, Node(value.shape), call, weights, options, bool(others))
            self._describe(step, value, traced, others, kwargs)
            self.steps.append(step)
            return _Traced(value, self.known(value, step.output), self)

        if isinstance(value, (tuple, list)):
            return tuple(made(part, _item_of(call, i)) for i, part in enumerate(value))
        if not isinstance(value, Tensor):
            raise self.refusal(function, "asks for values, which differ from image to image")
        result = made(value, call)
        if in_place:  # whoever holds this tensor sees its new value
            traced[0].node = result.node
            return traced[0]
        return result

    def _check(self, function: Callable, args: tuple, kwargs: dict[str, Any]) -> None:
        if function in _RANDOM or function in _DROPOUT:
            raise self.refusal(function, "draws random numbers in evaluation mode")
        if kwargs.get("out") is not None or function is _T.__setitem__:
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
        kept = function in _KEEP_POSITIVE and kind is not Kind.CONSTANT and "alpha" not in kwargs
        output.positive = function in _POSITIVE or (kept and not others and all(node.positive for node in nodes))
        if function in _VIEWS | _SEVERAL_VIEWS | _DETACH or (
            kind is Kind.GENERAL and any(_same_memory(value, self.values[node]) for node in nodes)
        ):
            output.shared = True
            for node in nodes:
                node.shared = True

    def _kind(self, function: Callable, args: tuple, kwargs: dict[str, Any], traced: list[_Traced]) -> Kind:
        """Return the kind of step that this call is."""
        if not torch.is_grad_enabled() or function in _DETACH or not any(leaf.node.differentiable for leaf in traced):
            return Kind.DETACHED
        if function not in _KINDS or not all(leaf.node.differentiable for leaf in traced):
            return Kind.GENERAL
        if function in _ADD | _SUBTRACT and len(traced) == 2:
            return Kind.COMBINE
        first = (args and args[0] is traced[0]) or function in _ADD | _SUBTRACT | _MULTIPLY
        odd = kwargs.get("rounding_mode") is not None or kwargs.get("return_indices")
        if function is F.pad and kwargs.get("mode", "constant") != "constant":
            return Kind.COMBINE  # copies of values
        if function is F.pad and kwargs.get("value"):
            odd = True
        if function in _MAX_POOL and traced[0].ndim != 4:
            odd = True
        if odd or (function not in CAT and (len(traced) > 1 or not first)):
            return Kind.GENERAL
        return _KINDS[function]


def _name(function: Callable) -> str:
    return resolve_name(function) or str(function)


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
        layer = F.linear if function is F.linear else convolution
        return lambda x, weight, bias: layer(x, weight, bias, **options), weights, options
    if kind is Kind.MAX_POOL:
        function = F.adaptive_max_pool2d if function is F.adaptive_max_pool2d else F.max_pool2d
        kwargs = kwargs | {"return_indices": True}
    if function not in (_T.view,) or not any(isinstance(arg, torch.dtype) for arg in (*args, *kwargs.values())):
        function = _EQUIVALENT.get(function, function)
    call = _replace((args, kwargs), lambda leaf: leaf.node)
    nodes = list(dict.fromkeys(leaf.node for leaf in _traced((args, kwargs))))
    copy = in_place and _works_in_place(function)

    def closed(*values: Tensor) -> Any:
        given = dict(zip(nodes, values, strict=True))
        args, kwargs = _replace(call, given.get, Node)
        return function(args[0].clone(), *args[1:], **kwargs) if copy else function(*args, **kwargs)

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
