"""The softplus surrogate: the same network with a second derivative.

A ReLU network is piecewise linear: the second derivative that an attack on its gradient needs is zero almost
everywhere. With softplus in place of ReLU it is not. The replacement happens while the network runs, function by
function, so that it holds for modules, functional calls and reused activations alike, and nothing is copied.
"""

import math
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fragile_utils._base import checks, precision
from fragile_utils.models.convolution import convolution


def softplus(x: Tensor, beta: float = 1.0) -> Tensor:
    """Return log(1 + exp(beta x)) / beta, with exact derivatives.

    Where it differs from ReLU by less than the dtype resolves, it is ReLU exactly: the far tail of exp is made of
    denormal numbers, on which a CPU computes ten times slower.
    """
    value, _ = _Softplus.apply(x, beta)
    return value


def softplus_and_slope(x: Tensor, beta: float, in_place: bool = False) -> tuple[Tensor, Tensor]:
    """Return softplus and its derivative s, the sigmoid of beta x; neither can be differentiated.

    Softplus is x - log(s) / beta, up to a rounding error of about 1e-6 / beta in float32. F.softplus takes ten times as
    long on a CPU. With `in_place`, x is overwritten by the value. For an infinite beta it is ReLU.
    """
    if math.isinf(beta):
        value = x.clamp_(min=0) if in_place else x.clamp(min=0)
        return value, (value > 0).to(x.dtype)
    # e^-20 is below the resolution of float32, e^-40 below that of float64: from there on value and slope are 0.
    tail = 40.0 if x.dtype == torch.float64 else 20.0
    value = x.clamp_(min=-tail / beta) if in_place else x.clamp(min=-tail / beta)
    slope = torch.sigmoid(value if beta == 1 else value * beta)
    value = F.threshold_(value.sub_(slope.log(), alpha=1 / beta), 0, 0)
    return value, F.threshold_(slope, math.exp(-tail) * 1.01, 0)


class _Softplus(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, beta: float) -> tuple[Tensor, Tensor]:
        return softplus_and_slope(x, beta)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        _, ctx.beta = inputs
        _, slope = output
        ctx.mark_non_differentiable(slope)
        ctx.save_for_backward(inputs[0], slope)

    @staticmethod
    def backward(ctx, grad: Tensor, _: Tensor | None) -> tuple[Tensor, None]:
        x, slope = ctx.saved_tensors
        return _SoftplusSlope.apply(grad, x, slope, ctx.beta), None


class _SoftplusSlope(torch.autograd.Function):
    """grad * sigmoid(beta x), as a function of both."""

    generate_vmap_rule = True

    @staticmethod
    def forward(grad: Tensor, x: Tensor, slope: Tensor, beta: float) -> Tensor:
        return grad * slope

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        grad, x, slope, ctx.beta = inputs
        ctx.save_for_backward(grad, x, slope)

    @staticmethod
    def backward(ctx, grad2: Tensor) -> tuple[Tensor, Tensor, None, None]:
        grad, x, slope = ctx.saved_tensors
        if torch.is_grad_enabled():  # a third derivative is wanted: leave it to autograd
            slope = torch.sigmoid(x * ctx.beta)
            return grad2 * slope, grad2 * grad * slope * (1 - slope) * ctx.beta, None, None
        curvature = torch.ops.aten.sigmoid_backward(grad, slope)  # grad * slope * (1 - slope), in one pass
        return grad2 * slope, curvature.mul_(grad2).mul_(ctx.beta), None, None


class SoftplusSurrogate(nn.Module):
    """The same network, the same parameters, with softplus wherever it computes ReLU; see `softplus_surrogate`.

    Attributes
    ----------
    replaced : bool
        Whether softplus has taken the place of any function, in any forward pass so far.
    """

    def __init__(self, model: nn.Module, beta: float) -> None:
        super().__init__()
        self.model = model
        self.beta = beta
        self.constant = False  # whether its parameters are constants, though they may require gradients
        self.replaced = False
        self.training = model.training  # without train(), which would set every module of the model

    def forward(self, images: Tensor) -> Tensor:
        smooth = Smooth(self.beta)
        if torch.compiler.is_compiling():  # the surrogate itself: what is inside is compiled with it
            with smooth:
                logits = self.model(images)
        else:
            with uncompiled(), _computed_once(), smooth:
                logits = self.model(images)
        self.replaced = self.replaced or smooth.replaced
        return logits


def softplus_surrogate(model: nn.Module, beta: float | None = None) -> SoftplusSurrogate:
    """Return `model` with each ReLU replaced by softplus(beta), sharing all parameters.

    Modules, ``F.relu``, ``torch.relu`` and in-place forms are replaced alike, and so are the functions that are made of
    ReLUs: leaky and parametric ReLU, ReLU6, hard tanh, hard sigmoid, hard swish, soft shrinkage, SELU, absolute values,
    clamps at 0 or on both sides, maxima and minima of two values. Whole numbers stay as they are. `kinks_left` names
    what keeps its kinks, ``torch.where``, maxima over an axis and functions of TorchScript for example. What
    ``torch.compile`` has compiled runs as it is written. Second derivatives are about 1.4 times faster to compute when
    the parameters are frozen (``model.requires_grad_(False)``).

    Parameters
    ----------
    model : Module
        Left as it is. A surrogate has no ReLU left: what is returned computes the same, whatever `beta`.
    beta : float, optional
        Sharpness: the larger, the closer to ReLU. By default `model.beta` where it has one, else 1.

    Raises
    ------
    ValueError
        If `beta` is not above 0, or the model is a TorchScript module, whose operations cannot be replaced; when it
        runs, if it computes parts of itself again for the derivatives (``torch.utils.checkpoint``).

    References
    ----------
    Ghorbani, Abid, Zou, *Interpretation of Neural Networks is Fragile*, AAAI 2019, section "Attacks".
    """
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise ValueError("model: expected a plain module, got TorchScript, in which ReLU cannot be replaced")
    if not hasattr(torch.compiler, "set_stance") and any(map(is_compiled, model.modules())):
        raise ValueError("model: expected a plain module, got one that torch.compile has compiled; leave that out")
    beta = checks.positive(getattr(model, "beta", 1.0) if beta is None else beta, "beta")
    if isinstance(model, SoftplusSurrogate):
        return SoftplusSurrogate(model.model, model.beta)
    return SoftplusSurrogate(model, beta)


@precision.float32()
def choose_beta(model: nn.Module, images: Tensor, share: float = 0.95) -> float:
    """Return the smallest power of two, from 1 on, with which the surrogate predicts as `model` does.

    Parameters
    ----------
    model : Module
        In evaluation mode.
    images : Tensor (N, 3, H, W)
        In [0, 1]; the more, the better the choice.
    share : float
        On which share of the images, at least, surrogate and network have to agree.

    Raises
    ------
    ValueError
        If no beta up to 2^20 will do.
    """
    with torch.no_grad():
        predicted = checks.logits_shape(model(images), len(images)).argmax(1)
        for power in range(21):
            agreement = softplus_surrogate(model, 2.0**power)(images).argmax(1) == predicted
            if agreement.double().mean() >= share:
                return 2.0**power
    raise ValueError(f"beta: with no softplus does the surrogate agree with the model on {share:.0%} of the images")


def beta_of(model: nn.Module, images: Tensor) -> float:
    """Return the sharpness that a network brings as ``beta``; of one that brings none, `choose_beta` on the images."""
    beta = getattr(model, "beta", None)
    return choose_beta(model, images) if beta is None else float(beta)


def is_compiled(module: nn.Module) -> bool:
    """Return whether ``torch.compile(module)`` made it, or ``module.compile()`` changed what a call of it runs."""
    return hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None


def uncompiled() -> AbstractContextManager:
    """Return a context in which ``torch.compile`` has no effect (PyTorch 2.6): no mode sees into compiled code."""
    if "torch._dynamo" not in sys.modules or not hasattr(torch.compiler, "set_stance"):  # nothing is compiled without
        return nullcontext()
    return _eager


class _Eager(AbstractContextManager):
    """A stance is one for all threads: the first that comes takes it, and the last that goes gives it back."""

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._stance = torch.compiler.set_stance("force_eager")
                self._stance.__enter__()
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._stance.__exit__(None, None, None)


_eager = _Eager()


@contextmanager
def _computed_once() -> Iterator[None]:
    """Refuse checkpoints, which compute a part of the network again in the backward pass, where no mode is active."""
    with ExitStack() as stack:
        with suppress(RuntimeError):  # there are hooks around the whole network, such as those that count its memory
            stack.enter_context(torch.autograd.graph.disable_saved_tensors_hooks(_CHECKPOINT))
        try:
            yield
        except RuntimeError as error:
            if str(error) != _CHECKPOINT:
                raise
            raise ValueError(_CHECKPOINT) from None


_CHECKPOINT = (
    "model: expected every layer to be computed once, got hooks on what is saved for the backward pass, as of a "
    "checkpoint (torch.utils.checkpoint), which computes layers again without the surrogate; turn them off"
)


class Smooth(TorchFunctionMode):
    """While it is active, ReLU and its relatives compute softplus, and a frozen convolution differentiates faster.

    Attributes
    ----------
    replaced : bool
        Whether it has met any of them.
    """

    def __init__(self, beta: float) -> None:
        super().__init__()
        self.beta = beta
        self.replaced = False

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in _CONVOLUTIONS:
            return convolution(*args, **kwargs)
        func = of_two(func, args, kwargs)
        if func in _SMOOTH and any(isinstance(x, Tensor) and x.is_floating_point() for x in (*args, *kwargs.values())):
            self.replaced = True
            with replacing():
                return self._smooth(func, *args, **kwargs)
        return func(*args, **kwargs)

    def _smooth(self, func: Callable, input: Tensor, *args, inplace: bool = False, **kwargs) -> Tensor:
        if args and isinstance(args[-1], bool):  # F.relu(x, True)
            *args, inplace = args
        if inplace or func in _IN_PLACE:
            return input.copy_(_SMOOTH[func](input.clone(), self.beta, *args, **kwargs))
        return _SMOOTH[func](input, self.beta, *args, **kwargs)


# --- Kinks, and what takes their place -------------------------------------------------------------------------------

# Each is a sum of ReLUs, or made of one; with softplus in their place it has no kink left.


def _leaky_relu(x: Tensor, beta: float, negative_slope: float = 0.01) -> Tensor:
    return negative_slope * x + (1 - negative_slope) * softplus(x, beta)


def _prelu(x: Tensor, beta: float, weight: Tensor) -> Tensor:
    if weight.numel() > 1:  # one for each channel
        weight = weight.view(-1, *(1,) * (x.ndim - 2))
    return weight * x + (1 - weight) * softplus(x, beta)


def _rrelu(x: Tensor, beta: float, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False) -> Tensor:
    return _leaky_relu(x, beta, (lower + upper) / 2)


def _hardtanh(x: Tensor, beta: float, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    return min_val + softplus(x - min_val, beta) - softplus(x - max_val, beta)


def _relu6(x: Tensor, beta: float) -> Tensor:
    return _hardtanh(x, beta, 0.0, 6.0)


def _hardsigmoid(x: Tensor, beta: float) -> Tensor:
    return _relu6(x + 3, beta) / 6


def _hardswish(x: Tensor, beta: float) -> Tensor:
    return x * _hardsigmoid(x, beta)


def _softshrink(x: Tensor, beta: float, lambd: float = 0.5) -> Tensor:
    return softplus(x - lambd, beta) - softplus(-x - lambd, beta)


def _abs(x: Tensor, beta: float) -> Tensor:
    return 2 * softplus(x, beta) - x


def _clamp(x: Tensor, beta: float, min: Any = None, max: Any = None) -> Tensor:
    if min is not None and max is not None:
        return min + softplus(x - min, beta) - softplus(x - max, beta)
    if max is None:  # one bound away from 0 keeps numbers in range and is no activation
        return softplus(x, beta) if _is_zero(min) else x.clamp(min=min)
    return -softplus(-x, beta) if _is_zero(max) else x.clamp(max=max)


def _clamp_max(x: Tensor, beta: float, max: Any) -> Tensor:
    return _clamp(x, beta, None, max)


def _is_zero(bound: Any) -> bool:
    return not isinstance(bound, Tensor) and bound == 0


def _maximum(x: Tensor, beta: float, other: Tensor) -> Tensor:
    return other + softplus(x - other, beta)


def _minimum(x: Tensor, beta: float, other: Tensor) -> Tensor:
    return x - softplus(x - other, beta)


def _elu(x: Tensor, beta: float, alpha: float = 1.0) -> Tensor:
    if alpha == 1:  # its derivative does not jump
        return F.elu(x)
    return softplus(x, beta) + alpha * torch.expm1(-softplus(-x, beta))


def _selu(x: Tensor, beta: float) -> Tensor:
    return 1.0507009873554805 * _elu(x, beta, 1.6732632423543772)


_T = Tensor
_IN_PLACE = {
    *(torch.relu_, _T.relu_, F.relu_, F.leaky_relu_, F.hardtanh_, torch.clamp_, _T.clamp_, _T.clamp_min_),
    *(_T.clamp_max_, _T.clip_, torch.abs_, _T.abs_, _T.absolute_, torch.rrelu_, torch.selu_, F.elu_),
}
_SMOOTH: dict[Callable, Callable] = {
    **dict.fromkeys((F.relu, torch.relu, _T.relu, torch.relu_, _T.relu_, F.relu_), softplus),
    **dict.fromkeys((torch.ops.aten.relu, torch.ops.aten.relu.default), softplus),
    **dict.fromkeys((F.leaky_relu, F.leaky_relu_), _leaky_relu),
    **dict.fromkeys((F.prelu, torch.prelu, _T.prelu), _prelu),
    **dict.fromkeys((F.rrelu, torch.rrelu, torch.rrelu_), _rrelu),
    **dict.fromkeys((F.hardtanh, F.hardtanh_), _hardtanh),
    **{F.relu6: _relu6, F.hardsigmoid: _hardsigmoid, F.hardswish: _hardswish, F.softshrink: _softshrink},
    **dict.fromkeys((torch.abs, _T.abs, torch.abs_, _T.abs_, _T.__abs__), _abs),
    **dict.fromkeys((torch.absolute, _T.absolute, _T.absolute_), _abs),
    **dict.fromkeys((torch.clamp, _T.clamp, torch.clip, _T.clip, torch.clamp_, _T.clamp_, _T.clip_), _clamp),
    **dict.fromkeys((torch.clamp_min, _T.clamp_min, _T.clamp_min_), _clamp),
    **dict.fromkeys((torch.clamp_max, _T.clamp_max, _T.clamp_max_), _clamp_max),
    **dict.fromkeys((torch.maximum, _T.maximum, torch.fmax, _T.fmax), _maximum),
    **dict.fromkeys((torch.minimum, _T.minimum, torch.fmin, _T.fmin), _minimum),
    **dict.fromkeys((F.elu, F.elu_), _elu),
    **dict.fromkeys((F.selu, torch.selu, torch.selu_), _selu),
}
MAX_OR_MIN = {torch.max: torch.maximum, _T.max: torch.maximum, torch.min: torch.minimum, _T.min: torch.minimum}


def of_two(func: Callable, args: tuple, kwargs: dict[str, Any]) -> Callable:
    """Return the maximum or minimum of two values where ``max`` or ``min`` is called for that, else the function."""
    if func in MAX_OR_MIN and isinstance(args[1] if len(args) > 1 else kwargs.get("other"), Tensor):
        return MAX_OR_MIN[func]
    return func


# --- Kinks that are left ---------------------------------------------------------------------------------------------

# Below the functions of PyTorch lie few operations, the same for every alias and for TorchScript. One that makes whole
# numbers or truth values of numbers is a step, whatever its name; of the others, these have kinks or steps.
_KINKED = re.compile(
    r"relu|leaky_relu|_prelu_kernel|rrelu_with_noise|hardtanh|hardsigmoid|hardswish|hardshrink|softshrink|threshold|abs|"
    r"maximum|minimum|fmax|fmin|max|min|amax|amin|aminmax|cummax|cummin|\w*max_pool\w*|sort|topk|kthvalue|median|"
    r"nanmedian|mode|where|sign|sgn|heaviside|round|floor|ceil|trunc|frac|fmod|remainder|floor_divide"
)
_KINKED_IF: dict[str, Callable[..., bool]] = {  # of all arguments but the first tensor
    "clamp": lambda min=None, max=None: (min is not None and max is not None) or _is_kink(min) or _is_kink(max),
    **dict.fromkeys(("clamp_min", "clamp_max"), lambda bound: _is_kink(bound)),
    "elu": lambda alpha=1, *scales: alpha != 1,
    "linalg_vector_norm": lambda ord=2, *axes, **options: ord in (0, 1, math.inf, -math.inf),
    "_cdist_forward": lambda other, p, mode: p in (0, 1, math.inf),
}


def _is_kink(bound: Any) -> bool:
    """Return whether a bound is 0 or one of many; another one keeps numbers in range, as in `_clamp`."""
    return isinstance(bound, Tensor) or bound == 0


_replacing: ContextVar[bool] = ContextVar("replacing", default=False)


@contextmanager
def replacing() -> Iterator[None]:
    """Say that what is computed in the block takes the place of a kink, and has none, whatever it is made of."""
    before = _replacing.set(True)
    try:
        yield
    finally:
        _replacing.reset(before)


class _Noting(TorchDispatchMode):
    """While it is active, operations with kinks or steps are noted, unless they are part of what replaces one."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.noted: list[str] = []
        # Of the images, and of what is computed from them: kept, so that nothing else comes to lie there.
        self._memory = _memory_of(images)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        given = [x for x in tree_leaves((args, kwargs)) if _are_real(x)]
        if not any(place in self._memory for x in given for place in _memory_of(x)):
            return result
        self._memory |= {place: kept for x in tree_leaves(result) for place, kept in _memory_of(x).items()}
        if not _replacing.get():
            operation = func.overloadpacket.__name__.removesuffix("_")  # the same in place
            name = f"torch.{operation.removesuffix('_with_indices').lstrip('_')}"
            if name not in self.noted and (_is_step(operation, result) or _has_kinks(operation, args[1:], kwargs)):
                self.noted.append(name)
        return result


def _memory_of(x: Any) -> dict[int, Any]:
    """Return the memory of a tensor, by its place."""
    if not isinstance(x, Tensor) or x.layout != torch.strided or not x.numel():
        return {}
    return {x.untyped_storage().data_ptr(): x.untyped_storage()}


def _are_real(x: Any) -> bool:
    return isinstance(x, Tensor) and (x.is_floating_point() or x.is_complex())


def _is_step(operation: str, result: Any) -> bool:
    if operation.startswith(("new_", "is")) or operation.endswith("_like"):  # of no values; guards against NaN
        return False
    return isinstance(result, Tensor) and not _are_real(result)


def _has_kinks(operation: str, args: tuple, kwargs: dict[str, Any]) -> bool:
    if operation in _KINKED_IF:
        return _KINKED_IF[operation](*args, **kwargs)
    return _KINKED.fullmatch(operation) is not None


@torch.enable_grad()  # without, some maxima are computed in other ways
def kinks_left(surrogate: SoftplusSurrogate, images: Tensor) -> list[str]:
    """Return the names of the operations with kinks, or steps, that a surrogate computes as they are."""
    image = images[:1].detach().clone().requires_grad_()
    with torch.jit.optimized_execution(False), _Noting(image) as noting:
        surrogate(image)
    return noting.noted


_CONVOLUTIONS = {F.conv2d, torch.conv2d}
