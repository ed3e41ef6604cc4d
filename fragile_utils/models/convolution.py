"""Convolution with frozen weights, and its transpose: what second derivatives are quicker with."""

import torch
import torch.nn.functional as F
from torch import Tensor

from fragile_utils._base import precision
from fragile_utils._base.geometry import left_over, pair
from fragile_utils._base.layout import layout
from fragile_utils._base.onednn import convolve


def convolution(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride=1, padding=0, dilation=1, groups=1):
    """Return torch.conv2d(...), whose second derivative leaves out the weights when they are frozen, and real.

    Autograd's own double backward of a convolution computes the gradient of the weights even when nobody asks. It is
    kept where weights are complex, and where autocast gives them another type.
    """
    frozen = not weight.requires_grad and (bias is None or not bias.requires_grad)
    special = weight.is_complex() or precision.autocast(input.device)
    if not frozen or special or isinstance(padding, str):
        return torch.conv2d(input, weight, bias, stride, padding, dilation, groups)
    return _FrozenConvolution.apply(input, weight, bias, pair(stride), pair(padding), pair(dilation), groups)


class _FrozenConvolution(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(input, weight, bias, stride, padding, dilation, groups):
        return convolve(input, weight, bias, stride, padding, dilation, groups)

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
    sparse = max(stride) > 1 and max(dilation) == 1 and groups == 1 and grad.ndim == 4
    if groups == 1 and weight.shape[-2:] == (1, 1) and (stride, padding) == ((1, 1), (0, 0)):
        return convolve(grad, weight.transpose(0, 1))
    if sparse and weight.shape[1] <= FEW_CHANNELS and grad.device.type == "cpu":
        return _by_subpixels(grad, weight, size, stride, padding)
    rest = left_over(size, grad.shape[-2:], weight.shape[-2:], stride, padding, dilation)
    return F.conv_transpose2d(grad, weight, None, stride, padding, rest, groups, dilation)


FEW_CHANNELS = 4  # of the image: the first layer


def _by_subpixels(grad: Tensor, weight: Tensor, size, stride, padding) -> Tensor:
    """Return the transpose of a convolution with a stride, as a dense convolution to blocks of pixels.

    Pixel s i + a gets sum_j grad[i - j] weight[s j + a]: a convolution of `grad` for each place a in a block.
    """
    (s, t), (p, q) = stride, padding
    (j, k), (o, c) = (-(-n // m) for n, m in zip(weight.shape[-2:], stride, strict=True)), weight.shape[:2]
    filled = F.pad(weight, (0, k * t - weight.shape[3], 0, j * s - weight.shape[2]))
    kernels = filled.reshape(o, c, j, s, k, t).permute(1, 3, 5, 0, 2, 4).reshape(c * s * t, o, j, k).flip(2, 3)
    blocks = convolve(grad, kernels.contiguous(memory_format=layout(grad)), None, 1, (j - 1, k - 1))
    n, _, h, w = blocks.shape
    image = blocks.view(n, c, s, t, h, w).permute(0, 1, 4, 2, 5, 3).reshape(n, c, h * s, w * t)
    cut = image[:, :, p : p + size[0], q : q + size[1]]
    short = size[0] - cut.shape[2], size[1] - cut.shape[3]
    return F.pad(cut, (0, short[1], 0, short[0])) if any(short) else cut
