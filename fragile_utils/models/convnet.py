"""Small convolutional networks for CIFAR-10: the paper's layout at any width.

A network is trained with batch normalisation, which is folded into the convolutions afterwards (`stored.fold`): what is
explained and attacked consists of convolutions, activations, an average and linear layers.
"""

from dataclasses import dataclass
from typing import Literal

from torch import nn

from fragile_utils._base import checks

SIZE, CLASSES = 32, 10  # of CIFAR-10: the side of an image in pixels, and the number of classes
STRIDES = (1, 1, 2, 1, 1, 2)


@dataclass(frozen=True)
class ConvNet:
    """Six convolutions of 3 x 3 pixels, the third and the sixth with stride 2, and a head of one or two linear layers.

    Parameters
    ----------
    width : int
        Channels of the first three convolutions; the others have twice as many. The paper's network has 96.
    hidden : int, optional
        Units of a dense layer before the last, 1,024 in the paper's network; by default there is none, and the last
        layer takes the average of each channel.
    activation : {"relu", "softplus"}
        After each convolution and after the dense layer.
    beta : float
        Sharpness of softplus.

    References
    ----------
    Ghorbani, Abid, Zou, *Interpretation of Neural Networks is Fragile*, AAAI 2019, appendix on CIFAR-10.
    """

    width: int = 32
    hidden: int | None = None
    activation: Literal["relu", "softplus"] = "relu"
    beta: float = 1.0

    def __post_init__(self) -> None:
        checks.count(self.width, "width")
        if self.hidden is not None:
            checks.count(self.hidden, "hidden")
        activation_of(self.activation, self.beta)

    def build(self, batch_norm: bool = False) -> nn.Sequential:
        """Return the network, its parameters drawn from torch's global generator: (N, 3, 32, 32) to logits (N, 10)."""
        widths = (3, *(self.width,) * 3, *(2 * self.width,) * 3)
        layers: list[nn.Module] = []
        for before, after, stride in zip(widths, widths[1:], STRIDES, strict=False):
            layers.append(nn.Conv2d(before, after, 3, stride, padding=1, bias=not batch_norm))
            layers += [nn.BatchNorm2d(after)] if batch_norm else []
            layers.append(activation_of(self.activation, self.beta))
        if self.hidden is None:
            layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], CLASSES)]
        else:
            positions = (SIZE // 4) ** 2
            dense = nn.Linear(widths[-1] * positions, self.hidden)
            layers += [nn.Flatten(), dense, activation_of(self.activation, self.beta)]
            layers.append(nn.Linear(self.hidden, CLASSES))
        return nn.Sequential(*layers)


def activation_of(name: str, beta: float) -> nn.Module:
    """Return the activation of a layout, a new module; its sharpness is checked whether or not it has one."""
    checks.positive(beta, "beta")
    if name not in ("relu", "softplus"):
        raise ValueError(f"activation: expected 'relu' or 'softplus', got {name!r}")
    return nn.ReLU() if name == "relu" else nn.Softplus(beta)
