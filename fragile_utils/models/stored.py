"""Trained networks for CIFAR-10, as files: a layout, the weights in half precision, and the normalisation."""

import copy
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fragile_utils._base.files import write_bytes
from fragile_utils.models.convnet import ConvNet
from fragile_utils.models.resnet import ResNet
from fragile_utils.models.vit import ViT

Layout = ConvNet | ResNet | ViT
LAYOUTS: dict[str, type[Layout]] = {"convnet": ConvNet, "resnet": ResNet, "vit": ViT}


def fold(network: nn.Module) -> nn.Module:
    """Return the same function without batch normalisation, in evaluation mode; `network` is left as it is.

    Each batch normalisation that follows a convolution in an nn.Sequential is an affine map of a channel, and becomes
    part of that convolution.
    """
    return _folded(copy.deepcopy(network).eval())


def _folded(module: nn.Module) -> nn.Module:
    for name, child in module.named_children():
        setattr(module, name, _folded(child))
    if not isinstance(module, nn.Sequential):
        return module
    layers: list[nn.Module] = []
    for layer in module:
        if isinstance(layer, nn.BatchNorm2d):
            layers[-1] = fuse_conv_bn_eval(layers[-1], layer)
        else:
            layers.append(layer)
    return nn.Sequential(*layers).eval()


@dataclass(frozen=True, eq=False)
class Stored:
    """A network as it is kept in a file.

    Attributes
    ----------
    layout : ConvNet, ResNet or ViT
    network : Module
        Without batch normalisation, in evaluation mode, float32.
    mean : Tensor (3, 32, 32)
        The mean training image, which is subtracted from each image in [0, 1].
    std : Tensor (3,)
        By which the difference is divided.
    """

    layout: Layout
    network: nn.Module
    mean: Tensor
    std: Tensor

    def save(self, path: Path) -> None:
        """Write a safetensors file in half precision; it appears at `path` only when it is complete."""
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        tensors |= {"mean": self.mean, "std": self.std}
        tensors = {name: value.detach().cpu().half().contiguous() for name, value in tensors.items()}
        (name,) = (name for name, kind in LAYOUTS.items() if kind is type(self.layout))
        layout = json.dumps({"network": name} | asdict(self.layout))
        write_bytes(path, safetensors.torch.save(tensors, {"layout": layout}))


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
            about = json.loads((file.metadata() or {})["layout"])
            layout = LAYOUTS[about.pop("network", "convnet")](**about)
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 - no iterator
        with torch.device("meta"):
            network = layout.build()
        state = {name.removeprefix("network."): value for name, value in tensors.items() if "network." in name}
        network.load_state_dict(state, assign=True)
        return Stored(layout, network.eval(), tensors["mean"], tensors["std"])
    except (safetensors.SafetensorError, AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path}: expected a network written by `fragile train`: {error}") from error
