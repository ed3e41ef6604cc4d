"""Convolutions and products on a CPU by oneDNN, which is in PyTorch, where PyTorch takes a library that is slower.

It leaves products of matrices to MKL, and so, on one thread, convolutions of one pixel and of small images. Measured on
one core of an AMD EPYC: 105 billion operations a second by MKL, 250 by oneDNN. Intel's processors were not measured.
Both compute in float32, and round otherwise. What PyTorch takes when is in ``aten/src/ATen/native/Convolution.cpp``,
``use_mkldnn``.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from fragile_utils._base import precision
from fragile_utils._base.geometry import pair

FEW = 128  # rows of a product, or places in all images: below, it is quicker to begin with MKL


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None, stride=1, padding=0, dilation=1, groups=1):
    """Return ``torch.conv2d(...)``."""
    if groups != 1 or x.ndim != 4 or isinstance(padding, str) or not _serves(x, weight, bias):
        return torch.conv2d(x, weight, bias, stride, padding, dilation, groups)
    return torch.mkldnn_convolution(x, weight, bias, pair(padding), pair(stride), pair(dilation), 1)


def multiply(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return ``F.linear(x, weight, bias)``, of `x` (..., C) and weights (O, C)."""
    if not _serves(x, weight, bias):
        return F.linear(x, weight, bias)
    found = _of_each_pixel(x.reshape(1, 1, -1, x.shape[-1]).movedim(3, 1), weight, bias)
    return found.movedim(1, 3).reshape(*x.shape[:-1], len(weight))


def multiply_pixels(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return a convolution of one pixel, of images `x` (N, C, H, W) whose channels come last, and weights (O, C)."""
    if not _serves(x, weight, bias):
        return F.linear(x.movedim(1, -1), weight, bias).movedim(-1, 1)
    return _of_each_pixel(x, weight, bias)


def _of_each_pixel(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.mkldnn_convolution(x, weight[:, :, None, None], bias, (0, 0), (1, 1), (1, 1), 1)


def _serves(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Return whether these are many numbers in float32 on a CPU, and nobody differentiates, traces or counts."""
    given = [x, weight] if bias is None else [x, weight, bias]
    if x.numel() < FEW * weight.shape[1] or any(t.dtype != torch.float32 or t.device.type != "cpu" for t in given):
        return False
    if torch.is_grad_enabled() and any(t.requires_grad for t in given):
        return False
    if _is_watched() or torch.compiler.is_compiling() or any(map(_is_wrapped, given)):
        return False
    return torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled and not precision.autocast(x.device)


def _is_watched() -> bool:
    """Return whether somebody is told which functions, or operations, are called."""
    return torch._C._len_torch_function_stack() > 0 or is_in_torch_dispatch_mode()


def _is_wrapped(x: Tensor) -> bool:
    """Return whether a tensor stands for others: in a transform of ``torch.func``, or as a class of its own."""
    return type(x) not in (Tensor, torch.nn.Parameter) or torch._C._functorch.is_functorch_wrapped_tensor(x)
