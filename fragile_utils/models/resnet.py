"""A residual network for CIFAR-10: He and others' layout, with cheap first stages."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from fragile_utils._base import checks
from fragile_utils.models.convnet import CLASSES, activation_of

STAGES = 3  # each but the first with half as many pixels a side, and twice as many channels


@dataclass(frozen=True)
class ResNet:
    """A convolution, three stages of residual blocks, the average of each channel and a linear layer.

    Parameters
    ----------
    width : int
        Channels of the first stage; the next have twice and four times as many.
    depth : int
        Blocks in each stage: 3 for the published ResNet-20.
    activation : {"relu", "softplus"}
    beta : float
        Sharpness of softplus.

    References
    ----------
    He et al., *Deep Residual Learning for Image Recognition*, CVPR 2016, arXiv:1512.03385, section 4.2; with a
    convolution of one pixel in the shortcuts that change the number of channels.
    """

    width: int = 16
    depth: int = 3
    activation: Literal["relu", "softplus"] = "relu"
    beta: float = 1.0

    def __post_init__(self) -> None:
        checks.count(self.width, "width")
        checks.count(self.depth, "depth")
        activation_of(self.activation, self.beta)

    def build(self, batch_norm: bool = False) -> nn.Sequential:
        """Return the network, its parameters drawn from torch's global generator: (N, 3, 32, 32) to logits (N, 10)."""
        layers = [*_convolution(3, self.width, 3, 1, batch_norm), activation_of(self.activation, self.beta)]
        before = self.width
        for stage in range(STAGES):
            after = self.width * 2**stage
            for block in range(self.depth):
                stride = 2 if stage and not block else 1
                layers.append(Residual(before, after, stride, batch_norm, self))
                before = after
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, CLASSES))


class Residual(nn.Module):
    """Two convolutions of 3 x 3 pixels, and a shortcut that leads past them."""

    def __init__(self, before: int, after: int, stride: int, batch_norm: bool, layout: ResNet) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            *_convolution(before, after, 3, stride, batch_norm),
            activation_of(layout.activation, layout.beta),
            *_convolution(after, after, 3, 1, batch_norm),
        )
        same = before == after and stride == 1
        self.shortcut = nn.Identity() if same else nn.Sequential(*_convolution(before, after, 1, stride, batch_norm))
        self.activation = activation_of(layout.activation, layout.beta)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.convolutions(x) + self.shortcut(x))


def _convolution(before: int, after: int, kernel: int, stride: int, batch_norm: bool) -> list[nn.Module]:
    layer = nn.Conv2d(before, after, kernel, stride, padding=kernel // 2, bias=not batch_norm)
    return [layer, nn.BatchNorm2d(after)] if batch_norm else [layer]
