"""The softplus surrogate: the same network with a second derivative.

A ReLU network is piecewise linear: the second derivative that an attack on its gradient needs is zero almost
everywhere. With softplus in place of ReLU it is not. The replacement happens while the network runs, function by
function, so that it holds for modules, functional calls and reused activations alike, and nothing is copied.
"""

import functools
import math
import weakref
from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from numbers import Real
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, wrap_torch_function

from fragile_utils._base import checks, precision
from fragile_utils.models.compiled import is_compiled, uncompiled
from fragile_utils.models.convolution import convolution
from fragile_utils.models.kinks import replacing
from fragile_utils.models.softplus import softplus, tail


class SoftplusSurrogate(nn.Module):
    """The same network, the same parameters, with softplus wherever it computes ReLU; see `softplus_surrogate`.

    Attributes
    ----------
    constant : bool
        Whether its parameters count as constants, though they may require gradients.
    replaced : bool
        Whether softplus has taken the place of any function, in any forward pass so far.
    """

    def __init__(self, model: nn.Module, beta: float, constant: bool = False) -> None:
        super().__init__()
        self.model, self.beta, self.constant = model, beta, constant
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

    def derived(self, key: Hashable, make: Callable[[], "SoftplusSurrogate"]) -> "SoftplusSurrogate":
        """Return another surrogate, made of this one once for each key: what is traced of it is used again."""
        known = _derived.setdefault(self, {})
        if key not in known:
            known[key] = make()
        return known[key]


_derived: weakref.WeakKeyDictionary[SoftplusSurrogate, dict[Hashable, SoftplusSurrogate]] = weakref.WeakKeyDictionary()


def softplus_surrogate(model: nn.Module, beta: float | None = None, constant: bool = False) -> SoftplusSurrogate:
    """Return `model` with each ReLU replaced by softplus(beta), sharing all parameters.

    Modules, ``F.relu``, ``torch.relu`` and in-place forms are replaced alike, and so are the functions that are made of
    ReLUs: leaky and parametric ReLU, ReLU6, hard tanh, hard sigmoid, hard swish, soft shrinkage, SELU, absolute values,
    clamps at 0, on both sides or at tensors, maxima and minima of two values. Whole numbers stay as they are.
    `kinks_left` names what keeps its kinks, ``torch.where``, maxima over an axis and functions of TorchScript for
    example. What is computed of weights alone is smoothed alike: where a network clamps its weights or takes their
    absolute values, the surrogate has other weights; compute them before. What ``torch.compile`` has compiled runs as
    it is written. Second derivatives are about 1.4 times faster to compute when the parameters are frozen
    (``model.requires_grad_(False)``).

    Parameters
    ----------
    model : Module
        Left as it is. A surrogate has no ReLU left: what is returned computes the same, whatever `beta`.
    beta : float, optional
        Sharpness: the larger, the closer to ReLU. By default `model.beta` where that is a number, else 1.
    constant : bool
        Take its parameters for constants, though they may require gradients: what is computed of its gradients is
        computed faster, and not differentiated by them.

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
    beta = (own_beta(model) or 1.0) if beta is None else checks.positive(beta, "beta")
    if isinstance(model, SoftplusSurrogate):
        return SoftplusSurrogate(model.model, model.beta, constant)
    return SoftplusSurrogate(model, beta, constant)


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


def own_beta(model: nn.Module) -> float | None:
    """Return the sharpness that a network brings as ``beta``: a number; what a layer learns under that name is none."""
    beta = getattr(model, "beta", None)
    return checks.positive(beta, "beta") if isinstance(beta, Real) and not isinstance(beta, bool) else None


def beta_of(model: nn.Module, images: Tensor) -> float:
    """Return the sharpness that a network brings as ``beta``; of one that brings none, `choose_beta` on the images."""
    return own_beta(model) or choose_beta(model, images)


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
        if func in SMOOTH and any(isinstance(x, Tensor) and x.is_floating_point() for x in (*args, *kwargs.values())):
            self.replaced = True
            with replacing():
                return self._smooth(func, *args, **kwargs)
        return func(*args, **kwargs)

    def _smooth(self, func: Callable, input: Tensor, *args, inplace: bool = False, **kwargs) -> Tensor:
        if args and isinstance(args[-1], bool):  # F.relu(x, True)
            *args, inplace = args
        if inplace or func in _IN_PLACE:
            return input.copy_(SMOOTH[func](input.clone(), self.beta, *args, **kwargs))
        return SMOOTH[func](input, self.beta, *args, **kwargs)


# --- Kinks, and what takes their place -------------------------------------------------------------------------------

# Each is a sum of ReLUs, or made of one; with softplus in their place it has no kink left. To a mode that looks on,
# each is one function, whatever it is made of.


def _leaky_relu(x: Tensor, beta: float, negative_slope: float = 0.01) -> Tensor:
    return negative_slope * x + (1 - negative_slope) * softplus(x, beta)


def _prelu(x: Tensor, beta: float, weight: Tensor) -> Tensor:
    if weight.numel() > 1:  # one for each channel
        weight = weight.view(-1, *(1,) * (x.ndim - 2))
    return weight * x + (1 - weight) * softplus(x, beta)


def _rrelu(x: Tensor, beta: float, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False) -> Tensor:
    return _leaky_relu(x, beta, (lower + upper) / 2)


def _hardtanh(x: Tensor, beta: float, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    return _clamp(x, beta, min_val, max_val)


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
    low, high = (None if _is_number(bound) and math.isinf(bound) else bound for bound in (min, max))
    if low is not None and high is not None:
        return _between(x, beta, low, high)
    if isinstance(low, Tensor) or isinstance(high, Tensor):
        return _minimum(x, beta, high) if low is None else _maximum(x, beta, low)
    if low == 0:
        return softplus(x, beta)
    if high == 0:
        return -softplus(-x, beta)
    with replacing(False):  # one bound away from 0 keeps numbers in range and is no activation
        return x.clone() if low is high else x.clamp(min=low, max=high)


def _clamp_max(x: Tensor, beta: float, max: Any) -> Tensor:
    return _clamp(x, beta, None, max)


def _is_number(bound: Any) -> bool:
    return isinstance(bound, Real)


def _between(x: Tensor, beta: float, low: Any, high: Any) -> Tensor:
    """Return x above a lower bound, less what is above an upper one: numbers, or tensors."""
    if _is_number(low) and not low < high:
        return x.clamp(low, high)  # a constant
    if isinstance(low, Tensor):
        low = torch.minimum(low, high)
    x = x.clamp(*clip_range(low, high, beta, x.dtype))
    if isinstance(low, Tensor):
        above = _maximum(x, beta, low)
    else:
        above = softplus(x - low, beta) + low if _is_near(low, beta, x.dtype) else x + softplus(low - x, beta)
    return above - softplus(x - high, beta)


def clip_range(low: Any, high: Any, beta: float, dtype: torch.dtype) -> tuple[Any, Any]:
    """Return between which values a smoothed clip is no constant: beyond them, it is to be computed at them."""
    margin = tail(dtype) / beta
    if isinstance(low, Tensor):
        return low - margin, high + margin
    finite = torch.finfo(dtype)
    return max(low - margin, finite.min), min(high + margin, finite.max)


def _is_near(low: float, beta: float, dtype: torch.dtype) -> bool:
    """Return whether low + softplus(x - low) is accurate; elsewhere x + softplus(low - x) is, which is the same."""
    return abs(low) <= tail(dtype) / beta


def _maximum(x: Tensor, beta: float, other: Tensor) -> Tensor:
    """Return the larger one and what is above it, which are the same two ways round: nothing is lost to rounding."""
    over = x - other
    return torch.where(over > 0, x + softplus(-over, beta), other + softplus(over, beta))


def _minimum(x: Tensor, beta: float, other: Tensor) -> Tensor:
    return -_maximum(-x, beta, -other)


def _elu(x: Tensor, beta: float, alpha: float = 1.0) -> Tensor:
    if alpha == 1:  # its derivative does not jump
        return F.elu(x)
    return softplus(x, beta) + alpha * torch.expm1(-softplus(-x, beta))


def _selu(x: Tensor, beta: float) -> Tensor:
    return 1.0507009873554805 * _elu(x, beta, 1.6732632423543772)


_T = Tensor
_CONVOLUTIONS = {F.conv2d, torch.conv2d}
_IN_PLACE = {
    *(torch.relu_, _T.relu_, F.relu_, F.leaky_relu_, F.hardtanh_, torch.clamp_, _T.clamp_, _T.clamp_min_),
    *(_T.clamp_max_, _T.clip_, torch.abs_, _T.abs_, _T.absolute_, torch.rrelu_, torch.selu_, F.elu_),
}
_MADE_OF_SOFTPLUS: dict[Callable, Callable] = {
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
_as_one = functools.cache(wrap_torch_function(lambda x, *args, **kwargs: (x,)))
SMOOTH = {kinked: _as_one(smooth) for kinked, smooth in _MADE_OF_SOFTPLUS.items()}  # called with (x, beta, ...)
MAX_OR_MIN = {torch.max: torch.maximum, _T.max: torch.maximum, torch.min: torch.minimum, _T.min: torch.minimum}


def of_two(func: Callable, args: tuple, kwargs: dict[str, Any]) -> Callable:
    """Return the maximum or minimum of two values where ``max`` or ``min`` is called for that, else the function."""
    if func in MAX_OR_MIN and isinstance(args[1] if len(args) > 1 else kwargs.get("other"), Tensor):
        return MAX_OR_MIN[func]
    return func
