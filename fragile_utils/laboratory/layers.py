"""Operators with windows: convolutions, pooling, and their derivatives by the image."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

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
    beside = [] if bias is None else [bias]
    if transposed:
        return _transposed(graph, x, weight, beside, stride, padding, dilation, output_padding, groups)
    return _convolution(graph, x, weight, weight.shape[2:], beside, stride, padding, dilation, groups)


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
    geometry = (stride, padding, dilation)
    if transposed:
        return [_convolution(graph, grad, weight, weight.shape[2:], [], *geometry, groups), None, None]
    left_over = _left_over(x.shape[2:], grad.shape[2:], weight.shape[2:], *geometry)
    return [_transposed(graph, grad, weight, [], *geometry, left_over, groups), None, None]


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
    left_over: Sequence[int],
    groups: int,
) -> str:
    """Return the name of a transposed convolution: with stride 1 as the convolution that it is, which is faster."""
    kernel = weight.shape[2:]
    reach = [d * (k - 1) - p for d, k, p in zip(dilation, kernel, padding, strict=True)]
    if any(s != 1 for s in stride) or any(left_over) or min(reach) < 0:
        pads = [*padding, *padding]
        geometry = {"kernel_shape": list(kernel), "strides": list(stride), "pads": pads, "dilations": list(dilation)}
        more = {"output_padding": list(left_over), "group": groups}
        return graph.add("ConvTranspose", x, weight, *beside, **geometry, **more)
    into, of = weight.shape[0] // groups, weight.shape[1]
    axes = range(3, 3 + len(kernel))
    turned = graph.shaped(weight, (groups, into, of, *kernel))
    turned = graph.add("Transpose", turned, perm=[0, 2, 1, *axes])
    turned = graph.shaped(turned, (groups * of, into, *kernel))
    turned = flipped(graph, turned, [axis - 1 for axis in axes if weight.shape[axis - 1] > 1])
    return _convolution(graph, x, turned, kernel, beside, stride, reach, dilation, groups)


def _left_over(
    size: Sequence[int],
    outputs: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> list[int]:
    """Return the rows and columns at the far edge that no window has reached; below 0, how far windows go beyond."""
    every = zip(size, outputs, kernel, stride, padding, dilation, strict=True)
    return [n - ((out - 1) * s - 2 * p + d * (k - 1) + 1) for n, out, k, s, p, d in every]


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
    kernel, stride, padding, dilation = (_pair(option) for option in (kernel, stride or kernel, padding, dilation))
    (height, width), outputs = x.shape[-2:], out[0].shape[-2:]
    beyond = [max(0, -n) for n in _left_over((height, width), outputs, kernel, stride, padding, dilation)]
    around = [(p, p + b) for p, b in zip(padding, beyond, strict=True)]
    wide = padded(graph, x, (*around[1], *around[0]), -np.inf)
    largest = graph.add(
        "MaxPool", wide, kernel_shape=list(kernel), strides=list(stride), dilations=list(dilation)
    )
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
    """Put back what arrives at the places of the maxima."""
    places = geometry[-1]
    planes = x.shape[:-2]
    zeros = graph.filled(0.0, Spec((*planes, x.shape[-2] * x.shape[-1]), x.dtype))
    flat = [graph.shaped(value, (*planes, -1)) for value in (places, grad)]
    return graph.shaped(scattered(graph, zeros, len(planes), *flat, reduction="add"), out.shape)


# --- Average pooling -------------------------------------------------------------------------------------------------


@LAYERS.writes(aten.avg_pool2d.default)
def avg_pool2d(graph: Graph, out: Spec, x: Value, *options: Any) -> str:
    """Sums over windows by a convolution, each divided by how many numbers it counts."""
    kernel, stride, padding, counts = _averages(out.shape[-2:], x.shape[-2:], *options)
    channels = x.shape[-3]
    beyond = [max(0, -n) for n in _left_over(x.shape[-2:], out.shape[-2:], kernel, stride, padding, (1, 1))]
    around = [(p, p + b) for p, b in zip(padding, beyond, strict=True)]
    wide = padded(graph, x, (*around[1], *around[0]), 0.0)
    ones = graph.filled(1.0, Spec((channels, 1, *kernel), x.dtype))
    sums = _convolution(graph, wide, ones, kernel, [], stride, (0, 0), (1, 1), channels)
    return graph.add("Div", sums, graph.constant(counts, x.dtype))


@LAYERS.writes(aten.avg_pool2d_backward.default)
def avg_pool2d_backward(graph: Graph, out: Spec, grad: Value, x: Value, *options: Any) -> str:
    kernel, stride, padding, counts = _averages(grad.shape[-2:], x.shape[-2:], *options)
    left_over = _left_over(x.shape[-2:], grad.shape[-2:], kernel, stride, padding, (1, 1))
    if min(left_over) < 0:
        raise ValueError("expected windows that end within the image, got ceil_mode")
    shares = Value(graph.add("Div", grad, graph.constant(counts, x.dtype)), grad.shape, x.dtype)
    spec = Spec((x.shape[-3], 1, *kernel), x.dtype)
    ones = Value(graph.filled(1.0, spec), *spec)
    return _transposed(graph, shares, ones, [], stride, padding, (1, 1), left_over, x.shape[-3])


@LAYERS.writes(aten._adaptive_avg_pool2d.default)
def adaptive_avg_pool2d(graph: Graph, out: Spec, x: Value, size: Sequence[int]) -> str:
    return avg_pool2d(graph, out, x, _even(x.shape[-2:], out.shape[-2:]))


@LAYERS.writes(aten._adaptive_avg_pool2d_backward.default)
def adaptive_avg_pool2d_backward(graph: Graph, out: Spec, grad: Value, x: Value) -> str:
    kernel = _even(x.shape[-2:], grad.shape[-2:])
    return avg_pool2d_backward(graph, out, grad, x, kernel)


def _averages(
    outputs: Sequence[int],
    size: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0, 0),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor: int | None = None,
) -> tuple[Sequence[int], Sequence[int], Sequence[int], np.ndarray]:
    """Return kernel, stride and padding, and by what the sum over each window is divided."""
    kernel, stride, padding = (_pair(option) for option in (kernel, stride or kernel, padding))
    lengths = []
    for n, out, k, s, p in zip(size, outputs, kernel, stride, padding, strict=True):
        starts = np.arange(out) * s - p
        ends = np.minimum(starts + k, n + p)
        lengths.append(ends - starts if count_include_pad else np.minimum(ends, n) - np.maximum(starts, 0))
    counts = np.outer(*lengths) if divisor is None else np.full(tuple(outputs), divisor)
    return kernel, stride, padding, counts


def _even(size: Sequence[int], outputs: Sequence[int]) -> list[int]:
    """Return the windows of an adaptive pool, if all are of one size and none overlap."""
    if any(n % out for n, out in zip(size, outputs, strict=True)):
        raise ValueError(f"expected an image that divides into {tuple(outputs)} parts, got {tuple(size)}")
    return [n // out for n, out in zip(size, outputs, strict=True)]


def _pair(option: int | Sequence[int]) -> tuple[int, int]:
    return (option, option) if isinstance(option, int) else (option[0], option[-1])
