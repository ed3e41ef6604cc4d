"""Convolution with frozen weights, and its transpose: what second derivatives are quicker with."""

import torch
import torch.nn.functional as F
from torch import Tensor


def convolution(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride=1, padding=0, dilation=1, groups=1):
    """Return torch.conv2d(...), whose second derivative leaves out the weights when they are frozen.

    Autograd's own double backward of a convolution computes the gradient of the weights even when nobody asks.
    """
    frozen = not weight.requires_grad and (bias is None or not bias.requires_grad)
    if not frozen or isinstance(padding, str):
        return torch.conv2d(input, weight, bias, stride, padding, dilation, groups)
    return _FrozenConvolution.apply(input, weight, bias, *pairs(stride, padding, dilation), groups)


class _FrozenConvolution(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(input, weight, bias, stride, padding, dilation, groups):
        return torch.conv2d(input, weight, bias, stride, padding, dilation, groups)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        input, weight, _, *ctx.geometry = inputs
        ctx.save_for_backward(weight)
        ctx.shape = input.shape[-2:]

    @staticmethod
    def backward(ctx, grad):
        (weight,) = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.geometry
        back = convolution_transposed(grad, weight, ctx.shape, stride, padding, dilation, groups)
        return back, None, None, None, None, None, None


def convolution_transposed(grad: Tensor, weight: Tensor, size, stride, padding, dilation, groups: int) -> Tensor:
    """Return the transpose of a convolution (without its bias) of images of `size` (H, W), applied to `grad`."""
    left_over = tuple(  # the rows and columns at the far edge that no window has reached
        size - ((out - 1) * s - 2 * p + d * (k - 1) + 1)
        for size, out, k, s, p, d in zip(
            size, grad.shape[-2:], weight.shape[-2:], stride, padding, dilation, strict=True
        )
    )
    return F.conv_transpose2d(grad, weight, None, stride, padding, left_over, groups, dilation)


def pairs(*options: int | tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """Return each option of a convolution as one number for the height and one for the width."""
    return tuple((v, v) if isinstance(v, int) else tuple(v) for v in options)
