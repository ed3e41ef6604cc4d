"""Operators with windows: convolutions, pooling, interpolation, and their derivatives by the image."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fragile_utils._base.geometry import for_axes, left_over, pair
from fragile_utils.laboratory.arrangement import flipped, padded, scattered
from fragile_utils.laboratory.graph import Graph, Spec, Value
from fragile_utils.laboratory.table import Table

aten = torch.ops.aten
LAYERS = Table()

# --- Convolutions ----------------------------------------------------------------------------------------------------


@LAYERS.writes(aten.convolution.default)
def convolution(
    graph: Graph,
    out: Spec,
    x: Value,
    weight: Value,
    bias: Value | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> str:
    beside, axes = [] if bias is None else [bias], len(weight.shape) - 2
    geometry = [for_axes(option, axes) for option in (stride, padding, dilation)]
    if transposed:
        return _transposed(graph, x, weight, beside, *geometry, for_axes(output_padding, axes), groups)
    return _convolution(graph, x, weight, weight.shape[2:], beside, *geometry, groups)


@LAYERS.writes(aten.convolution_backward.default)
def convolution_backward(
    graph: Graph,
    out: list[Spec | None],
    grad: Value,
    x: Value,
    weight: Value,
    bias_sizes: Any,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    mask: Sequence[bool],
) -> list[str | None]:
    """By the image: the transposed convolution. By weights, which are constants here, there is none."""
    if mask[1] or mask[2]:
        raise ValueError("expected weights that are constants; call model.requires_grad_(False)")
    geometry = [for_axes(option, len(weight.shape) - 2) for option in (stride, padding, dilation)]
    if transposed:
        return [_convolution(graph, grad, weight, weight.shape[2:], [], *geometry, groups), None, None]
    rest = left_over(x.shape[2:], grad.shape[2:], weight.shape[2:], *geometry)
    return [_transposed(graph, grad, weight, [], *geometry, rest, groups), None, None]


def _convolution(
    graph: Graph,
    x: Value,
    weight: Value | str,
    kernel: Sequence[int],
    beside: list[Value],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> str:
    pads = [*padding, *padding]
    geometry = {"kernel_shape": list(kernel), "strides": list(stride), "pads": pads, "dilations": list(dilation)}
    return graph.add("Conv", x, weight, *beside, group=groups, **geometry)


def _transposed(
    graph: Graph,
    x: Value,
    weight: Value,
    beside: list[Value],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    output_padding: Sequence[int],
    groups: int,
) -> str:
    """Return the name of a transposed convolution: with stride 1 as the convolution that it is, which is faster."""
    kernel = weight.shape[2:]
    reach = [d * (k - 1) - p for d, k, p in zip(dilation, kernel, padding, strict=True)]
    if any(rest >= s for rest, s in zip(output_padding, stride, strict=True)):
        raise ValueError(f"expected an output padding below the stride, got {list(output_padding)}")
    if any(s != 1 for s in stride) or min(reach) < 0:
        pads = [*padding, *padding]
        geometry = {"kernel_shape": list(kernel), "strides": list(stride), "pads": pads, "dilations": list(dilation)}
        more = {"output_padding": list(output_padding), "group": groups}
        return graph.add("ConvTranspose", x, weight, *beside, **geometry, **more)
    into, of = weight.shape[0] // groups, weight.shape[1]
    axes = range(3, 3 + len(kernel))
    turned = graph.shaped(weight, (groups, into, of, *kernel))
    turned = graph.add("Transpose", turned, perm=[0, 2, 1, *axes])
    turned = graph.shaped(turned, (groups * of, into, *kernel))
    turned = flipped(graph, turned, [axis - 1 for axis in axes if weight.shape[axis - 1] > 1])
    return _convolution(graph, x, turned, kernel, beside, stride, reach, dilation, groups)


# --- Max pooling -----------------------------------------------------------------------------------------------------


@LAYERS.writes(aten.max_pool2d_with_indices.default)
def max_pool2d(
    graph: Graph,
    out: list[Spec],
    x: Value,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    ceil_mode: bool = False,
) -> list[str]:
    """The places of the maxima by comparison: those of ONNX count through the whole batch, and WebGPU has none."""
    kernel, stride, padding, dilation = map(pair, (kernel, stride or kernel, padding, dilation))
    (height, width), outputs = x.shape[-2:], out[0].shape[-2:]
    beyond = [max(0, -n) for n in left_over((height, width), outputs, kernel, stride, padding, dilation)]
    around = [(p, p + b) for p, b in zip(padding, beyond, strict=True)]
    wide = padded(graph, x, (*around[1], *around[0]), -np.inf)
    largest = graph.add("MaxPool", wide, kernel_shape=list(kernel), strides=list(stride), dilations=list(dilation))
    place = graph.constant(0.0, torch.float32)
    for row in reversed(range(kernel[0])):  # of equal values the first, as in PyTorch, is written last
        for column in reversed(range(kernel[1])):
            first = [row * dilation[0], column * dilation[1]]
            last = [f + (n - 1) * s + 1 for f, n, s in zip(first, outputs, stride, strict=True)]
            value = graph.add("Slice", wide, *map(graph.constant, (first, last, [-2, -1], list(stride))))
            here = graph.constant(float(first[0] * width + first[1]), torch.float32)
            place = graph.add("Where", graph.add("Equal", value, largest), here, place)
    rows, columns = (np.arange(n) * s - p for n, s, p in zip(outputs, stride, padding, strict=True))
    corners = graph.constant(rows[:, None] * width + columns, torch.float32)  # of the windows; exact below 2^24
    places = Value(graph.add("Add", place, corners), out[1].shape, torch.float32)
    return [largest, graph.cast(places, torch.int64)]


@LAYERS.writes(aten.max_pool2d_with_indices_backward.default)
def max_pool2d_backward(graph: Graph, out: Spec, grad: Value, x: Value, *geometry: Any) -> str:
    return _put_back(graph, grad, x, geometry[-1])


@LAYERS.writes(aten.adaptive_max_pool2d_backward.default)
def adaptive_max_pool2d_backward(graph: Graph, out: Spec, grad: Value, x: Value, places: Value) -> str:
    return _put_back(graph, grad, x, places)


def _put_back(graph: Graph, grad: Value, x: Value, places: Value) -> str:
    """Return the name of what is like x, and has what arrives at the places of the maxima; only x's shape is read."""
    planes = x.shape[:-2]
    zeros = graph.filled(0.0, Spec((*planes, x.shape[-2] * x.shape[-1]), x.dtype))
    flat = [graph.shaped(value, (*planes, -1)) for value in (places, grad)]
    return graph.shaped(scattered(graph, zeros, len(planes), *flat, reduction="add"), x.shape)


# --- Averages and interpolation --------------------------------------------------------------------------------------

# All are linear, and do to the rows of an image what they do to its columns: y = A x B^T with the matrices that
# PyTorch's own function for one axis makes of unit vectors. So the transpose, which autograd asks for, is A^T y B.


@LAYERS.writes(aten.avg_pool2d.default)
def avg_pool2d(graph: Graph, out: Spec, x: Value, *options: Any) -> str:
    return _resampled(graph, x, _averages(x.shape[-2:], *options))


@LAYERS.writes(aten.avg_pool2d_backward.default)
def avg_pool2d_backward(graph: Graph, out: Spec, grad: Value, x: Value, *options: Any) -> str:
    return _resampled(graph, grad, [matrix.T for matrix in _averages(x.shape[-2:], *options)])


@LAYERS.writes(aten._adaptive_avg_pool2d.default)
def adaptive_avg_pool2d(graph: Graph, out: Spec, x: Value, size: Sequence[int]) -> str:
    return _resampled(graph, x, _adaptive(x.shape[-2:], out.shape[-2:]))


@LAYERS.writes(aten._adaptive_avg_pool2d_backward.default)
def adaptive_avg_pool2d_backward(graph: Graph, out: Spec, grad: Value, x: Value) -> str:
    return _resampled(graph, grad, [matrix.T for matrix in _adaptive(x.shape[-2:], grad.shape[-2:])])


@LAYERS.writes(aten.upsample_bilinear2d.default)
def upsample_bilinear2d(
    graph: Graph, out: Spec, x: Value, size: Sequence[int], align_corners: bool, *scales: float | None
) -> str:
    return _resampled(graph, x, _interpolated(x.shape[-2:], size, scales, "linear", align_corners))


@LAYERS.writes(aten.upsample_bilinear2d_backward.default)
def upsample_bilinear2d_backward(
    graph: Graph,
    out: Spec,
    grad: Value,
    size: Sequence[int],
    input_size: Sequence[int],
    align_corners: bool,
    *scales: float | None,
) -> str:
    matrices = _interpolated(input_size[-2:], size, scales, "linear", align_corners)
    return _resampled(graph, grad, [matrix.T for matrix in matrices])


@LAYERS.writes(aten.upsample_nearest2d.default)
def upsample_nearest2d(graph: Graph, out: Spec, x: Value, size: Sequence[int], *scales: float | None) -> str:
    return _resampled(graph, x, _interpolated(x.shape[-2:], size, scales, "nearest"))


@LAYERS.writes(aten.upsample_nearest2d_backward.default)
def upsample_nearest2d_backward(
    graph: Graph, out: Spec, grad: Value, size: Sequence[int], input_size: Sequence[int], *scales: float | None
) -> str:
    return _resampled(graph, grad, [matrix.T for matrix in _interpolated(input_size[-2:], size, scales, "nearest")])


def _resampled(graph: Graph, x: Value, matrices: Sequence[Tensor]) -> str:
    """Return the name of A x B^T for images x (N, C, H, W)."""
    rows, columns = (graph.constant(matrix, x.dtype) for matrix in (matrices[0], matrices[1].T))
    return graph.add("MatMul", graph.add("MatMul", rows, x), columns)


def _averages(
    size: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0, 0),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor: int | None = None,
) -> list[Tensor]:
    """Return the matrices of an average pool."""
    kernel, stride, padding = map(pair, (kernel, stride or kernel, padding))
    if divisor is not None:
        raise ValueError("expected no divisor_override")
    geometry = zip(kernel, stride, padding, strict=True)
    return _matrices(size, [(F.avg_pool1d, *one, ceil_mode, count_include_pad) for one in geometry])


def _adaptive(size: Sequence[int], outputs: Sequence[int]) -> list[Tensor]:
    return _matrices(size, [(F.adaptive_avg_pool1d, out) for out in outputs])


def _interpolated(
    size: Sequence[int], outputs: Sequence[int], scales: Sequence[float | None], mode: str, *corners: bool
) -> list[Tensor]:
    """Return the matrices of an interpolation; where PyTorch is given a scale, it computes with that."""
    function = {"linear": aten.upsample_linear1d, "nearest": aten.upsample_nearest1d}[mode]
    scales = scales or (None, None)
    return _matrices(size, [(function, [out], *corners, scale) for out, scale in zip(outputs, scales, strict=True)])


def _matrices(size: Sequence[int], functions: Sequence[tuple]) -> list[Tensor]:
    """Return the matrix (outputs, n) of a function for one axis, for each of two axes of length n."""
    pairs = zip(size, functions, strict=True)
    return [function(torch.eye(n)[:, None], *options)[:, 0].T for n, (function, *options) in pairs]
