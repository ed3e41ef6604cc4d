"""EfficientNet-Lite: inverted residual blocks of depthwise convolutions, batch normalisation and ReLU6.

Its weights were trained in TensorFlow, whose padding is not PyTorch's: where a stride leaves a row over, it is the far
edge that gets it. The padding is computed for each size of image, so that all sizes are exact.
"""

import math
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

WIDTHS = (16, 24, 40, 80, 112, 192, 320)  # channels of each stage, of Lite0
DEPTHS = (1, 2, 2, 3, 3, 4, 1)  # blocks of each stage, of Lite0
KERNELS = (3, 3, 5, 3, 5, 5, 3)
STRIDES = (1, 2, 2, 2, 1, 2, 1)  # of the first block of each stage
STEM, HEAD = 32, 1280  # channels before and after the stages, the same for all sizes
EXPANSION = 6  # how many times as many channels a block has inside; the first block has as many
EPS = 1e-3  # of batch normalisation
CHANNEL_STEP = 8


@dataclass(frozen=True)
class Scale:
    """What distinguishes the networks of the family: channels and blocks as multiples of Lite0's, pixels."""

    width: float
    depth: float
    size: int


SCALES = (Scale(1.0, 1.0, 224), Scale(1.0, 1.1, 240), Scale(1.1, 1.2, 260))  # Lite0, Lite1, Lite2


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's "same" padding: ceil(n / stride) outputs for n inputs, by a border of zeros.

    Of an odd number of rows or columns of the border, the larger half is at the bottom or on the right.
    """

    def forward(self, x: Tensor) -> Tensor:
        (top, bottom), (left, right) = (
            _border(n, k, s) for n, k, s in zip(x.shape[-2:], self.kernel_size, self.stride, strict=True)
        )
        if top == bottom and left == right:
            return F.conv2d(x, self.weight, self.bias, self.stride, (top, left), groups=self.groups)
        x = F.pad(x, (left, right, top, bottom))
        return F.conv2d(x, self.weight, self.bias, self.stride, groups=self.groups)


def _border(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return how many zeros come before and after `size` values."""
    total = max(0, (math.ceil(size / stride) - 1) * stride + kernel - size)
    return total // 2, total - total // 2


class InvertedResidual(nn.Module):
    """A block: many channels inside, one depthwise convolution on them, few at its ends, which a shortcut connects.

    Parameters
    ----------
    before, after : int
        Channels of its input and of its output.
    expansion : int
        How many times `before` there are inside.
    kernel, stride : int
        Of the depthwise convolution.
    """

    def __init__(self, before: int, after: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        inside = before * expansion
        self.expand = _layer(before, inside) if expansion > 1 else nn.Identity()
        self.depthwise = _layer(inside, inside, kernel, stride, groups=inside)
        self.project = _layer(inside, after, activation=False)
        self.shortcut = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.shortcut else y


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite0, 1 or 2: normalised images (N, 3, H, W) of any size to logits (N, 1000).

    Parameters
    ----------
    scale : Scale
        One of `SCALES`.

    References
    ----------
    Tan, Le, *EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks*, ICML 2019, arXiv:1905.11946;
    *EfficientNet-Lite*, TensorFlow's tpu, models/official/efficientnet/lite, 2020: no squeeze-and-excitation,
    ReLU6 in place of swish, stem and head as in the smallest network.
    """

    def __init__(self, scale: Scale) -> None:
        super().__init__()
        widths = [STEM, *(_channels(width * scale.width) for width in WIDTHS)]
        depths = [math.ceil(depth * scale.depth) for depth in DEPTHS]
        depths[0], depths[-1] = DEPTHS[0], DEPTHS[-1]
        blocks = []
        for stage, (kernel, stride) in enumerate(zip(KERNELS, STRIDES, strict=True)):
            before, after = widths[stage : stage + 2]
            expansion = EXPANSION if stage else 1
            blocks.append(InvertedResidual(before, after, expansion, kernel, stride))
            blocks += [InvertedResidual(after, after, expansion, kernel, 1) for _ in range(depths[stage] - 1)]
        self.stem = _layer(3, STEM, 3, 2)
        self.blocks = nn.Sequential(*blocks)
        self.head = _layer(widths[-1], HEAD)
        self.last = nn.Linear(HEAD, 1000)

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(self.blocks(self.stem(x)))
        return self.last(x.mean((2, 3)))


def _layer(
    before: int, after: int, kernel: int = 1, stride: int = 1, *, groups: int = 1, activation: bool = True
) -> nn.Sequential:
    """Return a convolution, batch normalisation and, unless told otherwise, ReLU6."""
    convolution = SameConv2d(before, after, kernel, stride, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(after, EPS), *([nn.ReLU6()] if activation else []))


def _channels(wanted: float) -> int:
    """Return the multiple of 8 nearest to `wanted`, but not more than a tenth below it."""
    nearest = max(CHANNEL_STEP, int(wanted + CHANNEL_STEP / 2) // CHANNEL_STEP * CHANNEL_STEP)
    return nearest if nearest >= 0.9 * wanted else nearest + CHANNEL_STEP
