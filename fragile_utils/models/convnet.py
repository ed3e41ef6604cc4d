"""Small convolutional networks for CIFAR-10: the paper's layout at any width, and files that hold one.

A network is trained with batch normalisation, which is folded into the convolutions afterwards: what is explained and
attacked consists of convolutions, activations, an average and linear layers.
"""

import copy
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fragile_utils._base import checks
from fragile_utils._base.files import write_bytes

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
        if self.activation not in ("relu", "softplus"):
            raise ValueError(f"activation: expected 'relu' or 'softplus', got {self.activation!r}")
        checks.positive(self.beta, "beta")

    def build(self, batch_norm: bool = False) -> nn.Sequential:
        """Return the network, its parameters drawn from torch's global generator: (N, 3, 32, 32) to logits (N, 10)."""
        widths = (3, *(self.width,) * 3, *(2 * self.width,) * 3)
        layers: list[nn.Module] = []
        for before, after, stride in zip(widths, widths[1:], STRIDES, strict=False):
            layers.append(nn.Conv2d(before, after, 3, stride, padding=1, bias=not batch_norm))
            layers += [nn.BatchNorm2d(after)] if batch_norm else []
            layers.append(self._activation())
        if self.hidden is None:
            layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], CLASSES)]
        else:
            positions = (SIZE // 4) ** 2
            dense = nn.Linear(widths[-1] * positions, self.hidden)
            layers += [nn.Flatten(), dense, self._activation(), nn.Linear(self.hidden, CLASSES)]
        return nn.Sequential(*layers)

    def _activation(self) -> nn.Module:
        return nn.ReLU() if self.activation == "relu" else nn.Softplus(self.beta)


def fold(network: nn.Sequential) -> nn.Sequential:
    """Return the same function without batch normalisation, in evaluation mode; `network` is left as it is.

    Each batch normalisation is an affine map of a channel, and becomes part of the convolution before it.
    """
    layers: list[nn.Module] = []
    for layer in copy.deepcopy(network).eval():
        if isinstance(layer, nn.BatchNorm2d):
            layers[-1] = fuse_conv_bn_eval(layers[-1], layer)
        else:
            layers.append(layer)
    return nn.Sequential(*layers).eval()


# --- Files -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Stored:
    """A network as it is kept in a file.

    Attributes
    ----------
    layout : ConvNet
    network : Sequential
        Without batch normalisation, in evaluation mode, float32.
    mean : Tensor (3, 32, 32)
        The mean training image, which is subtracted from each image in [0, 1].
    std : Tensor (3,)
        By which the difference is divided.
    """

    layout: ConvNet
    network: nn.Sequential
    mean: Tensor
    std: Tensor

    def save(self, path: Path) -> None:
        """Write a safetensors file in half precision; it appears at `path` only when it is complete."""
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        tensors |= {"mean": self.mean, "std": self.std}
        tensors = {name: value.detach().cpu().half().contiguous() for name, value in tensors.items()}
        write_bytes(path, safetensors.torch.save(tensors, {"layout": json.dumps(asdict(self.layout))}))


def load(path: Path) -> Stored:
    """Read what `Stored.save` has written.

    Raises
    ------
    ValueError
        If there is no such file, or it does not hold such a network.
    """
    if not path.is_file():
        raise ValueError(f"no such file: {path}")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            layout = ConvNet(**json.loads((file.metadata() or {})["layout"]))
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 - no iterator
        with torch.device("meta"):
            network = layout.build()
        state = {name.removeprefix("network."): value for name, value in tensors.items() if "." in name}
        network.load_state_dict(state, assign=True)
        return Stored(layout, network.eval(), tensors["mean"], tensors["std"])
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path}: expected a network written by `fragile train`: {error}") from error
