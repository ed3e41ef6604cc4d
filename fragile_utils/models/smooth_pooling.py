"""The maximum, smoothed: max pooling with second derivatives, as softplus is ReLU with second derivatives.

The softplus surrogate keeps max pools as they are. Its gradient then still jumps wherever the largest value of a window
changes place, and no Hessian knows of a jump. `smooth_surrogate` smooths them too: softplus is the log-sum-exp of 0 and
x, and each maximum becomes the log-sum-exp of its window or axes, of the same sharpness.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from fragile_utils._base import checks
from fragile_utils._base.geometry import pair
from fragile_utils.models.kinks import replacing
from fragile_utils.models.surrogate import MAX_OR_MIN, SoftplusSurrogate, of_two, softplus_surrogate


def smooth_max_pool2d(
    x: Tensor, kernel_size, stride=None, padding=0, dilation=1, ceil_mode: bool = False, *, beta: float
) -> Tensor:
    """Return max_pool2d(...) with log(sum of exp(beta v)) / beta over each window in place of its maximum.

    It is at least the maximum, and exceeds it by at most log(n) / beta, for windows of n values.
    """
    largest = F.max_pool2d(x.detach(), kernel_size, stride, padding, dilation, ceil_mode)
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = map(pair, (kernel_size, stride or kernel_size, padding, dilation))
    height, width = largest.shape[-2:]
    span_h, span_w = (height - 1) * sh + 1, (width - 1) * sw + 1  # from the first window to the last
    bottom = max(0, span_h + dh * (kh - 1) - ph - x.shape[-2])
    right = max(0, span_w + dw * (kw - 1) - pw - x.shape[-1])
    if ph or pw or bottom or right:
        x = F.pad(x, (pw, right, ph, bottom), value=torch.finfo(x.dtype).min / 4)
    tail = 40.0 if x.dtype == torch.float64 else 20.0  # as in softplus: no denormal numbers, no visible difference
    total = 0
    for top in range(0, kh * dh, dh):
        for left in range(0, kw * dw, dw):
            value = x[..., top : top + span_h : sh, left : left + span_w : sw]
            # The result does not depend on `largest`, and so neither do its derivatives: a constant is enough.
            total = total + ((value - largest) * beta).clamp(min=-tail).exp()
    return largest + total.log() / beta


def _smooth_maximum(x: Tensor, dim=(), keepdim: bool = False, *, beta: float) -> Tensor:
    """Return log(sum of exp(beta v)) / beta over some axes; with -beta in place of beta, the smooth minimum."""
    axes = tuple(range(x.ndim)) if dim in ((), [], None) else dim
    return (x * beta).logsumexp(axes, keepdim) / beta


class _SmoothPools(TorchFunctionMode):
    """While it is active, max pools compute `smooth_max_pool2d`, and so do maxima and minima over axes."""

    def __init__(self, beta: float) -> None:
        super().__init__()
        self.beta = beta

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func in _MAX_POOLS:
            kwargs.pop("return_indices", None)
            args = (kwargs.pop("input"), *args) if "input" in kwargs else args
            with replacing():
                return smooth_max_pool2d(*args, **kwargs, beta=self.beta)
        name = getattr(func, "__name__", "")
        if "max_pool" in name:
            got = name.replace("_with_indices", " with indices")
            raise ValueError(f"model: expected max_pool2d without indices, got {got}, which has no smooth form")
        if func in _MAXIMA or of_two(func, args, kwargs) in MAX_OR_MIN:
            return self._maximum(func, *args, **kwargs)
        return func(*args, **kwargs)

    def _maximum(self, func: Callable, input: Tensor, *args, **kwargs) -> Any:
        if not input.is_floating_point():
            return func(input, *args, **kwargs)
        kwargs = {_ALIASES.get(name, name): value for name, value in kwargs.items()}
        with replacing():
            value = _smooth_maximum(input, *args, **kwargs, beta=self.beta if "max" in func.__name__ else -self.beta)
        if func in _MAXIMA or not (args or kwargs):
            return value
        exact = func(input, *args, **kwargs)
        return type(exact)((value, exact.indices))  # its indices stay steps


_MAX_POOLS = {F.max_pool2d, torch.max_pool2d, torch.ops.aten.max_pool2d.default}
_ALIASES = {"axis": "dim", "keepdims": "keepdim"}
_MAXIMA = {torch.amax, Tensor.amax, torch.amin, Tensor.amin}


class SmoothPooling(nn.Module):
    """The same network, the same parameters, with a log-sum-exp wherever it computes max_pool2d, amax or max."""

    def __init__(self, model: nn.Module, beta: float) -> None:
        super().__init__()
        self.model = model
        self.beta = checks.positive(beta, "beta")
        self.training = model.training  # without train(), which would set every module of the model

    def forward(self, images: Tensor) -> Tensor:
        with _SmoothPools(self.beta):
            return self.model(images)


def smooth_surrogate(model: nn.Module, beta: float | None = None) -> SoftplusSurrogate:
    """Return `model` with each ReLU replaced by softplus and each maximum by a log-sum-exp, sharing all parameters.

    Maxima are max pools (``max_pool2d``), ``amax`` and ``max``, over some axes or all; minima are replaced alike.
    `kinks_left` names what keeps its kinks, ``torch.where`` or ``sort`` for example.

    Parameters
    ----------
    model : Module
        Left as it is.
    beta : float, optional
        Sharpness of both, as for `softplus_surrogate`.

    Raises
    ------
    ValueError
        As `softplus_surrogate`; when it runs, if the model has a max pool in one or three dimensions, an adaptive or a
        fractional one, or one that returns indices.
    """
    beta = softplus_surrogate(model, beta).beta
    return softplus_surrogate(SmoothPooling(model, beta), beta)
