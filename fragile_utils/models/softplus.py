"""Softplus, in place of ReLU: fast, without denormal numbers, with exact derivatives of every order."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def softplus(x: Tensor, beta: float = 1.0) -> Tensor:
    """Return log(1 + exp(beta x)) / beta, with exact derivatives.

    Where it differs from ReLU by less than the dtype resolves, it is ReLU exactly: the far tail of exp is made of
    denormal numbers, on which a CPU computes ten times slower.
    """
    value, _ = _Softplus.apply(x, beta)
    return value


def tail(dtype: torch.dtype) -> float:
    """Return from which beta |x| on softplus is ReLU exactly: e^-20 is lost in float32, e^-40 in float64."""
    return 40.0 if dtype == torch.float64 else 20.0


def softplus_and_slope(x: Tensor, beta: float, in_place: bool = False) -> tuple[Tensor, Tensor]:
    """Return softplus and its derivative s, the sigmoid of beta x; neither can be differentiated.

    Softplus is x - log(s) / beta, up to a rounding error of about 1e-6 / beta in float32. F.softplus takes ten times as
    long on a CPU. With `in_place`, x is overwritten by the value. For an infinite beta it is ReLU.
    """
    if math.isinf(beta):
        value = x.clamp_(min=0) if in_place else x.clamp(min=0)
        return value, (value > 0).to(x.dtype)
    end = tail(x.dtype)  # from there on value and slope are 0
    value = x.clamp_(min=-end / beta) if in_place else x.clamp(min=-end / beta)
    slope = torch.sigmoid(value if beta == 1 else value * beta)
    value = F.threshold_(value.sub_(slope.log(), alpha=1 / beta), 0, 0)
    return value, F.threshold_(slope, math.exp(-end) * 1.01, 0)


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
