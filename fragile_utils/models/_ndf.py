"""The weights of SqueezeNet in the package ndf, under torchvision's names."""

import io
import pickle
from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor

from fragile_utils.models._installed import InstalledFile

NDF = InstalledFile(
    "SqueezeNet's weights",
    package="ndf",
    version="0.1.4",
    file="ndf/example_models/weights/squeezenet_weights.pkl",
    sha256="f286bbf493e6389979ed3036f960f4404e0079acdb92156500df0d4a43d085f1",
)


def weights(path: Path | None = None) -> dict[str, Tensor]:
    """Return ndf's weights under torchvision's names. The file is checked before anything is unpickled."""
    content = NDF.read(path)
    layers = _ArraysOnly(io.BytesIO(content)).load()
    # torchvision numbers the modules of `features` in sequence; the fire modules sit between the pools.
    fire = dict(zip(range(2, 10), (3, 4, 6, 7, 9, 10, 11, 12), strict=True))
    names = {"conv1": "features.0", "conv10": "classifier.1"}
    names |= {
        f"fire{i}/{part}": f"features.{position}.{part.replace('squeeze1x1', 'squeeze')}"
        for i, position in fire.items()
        for part in ("squeeze1x1", "expand1x1", "expand3x3")
    }
    state = {}
    for layer, (kernel, bias) in layers.items():
        state[f"{names[layer]}.weight"] = torch.from_numpy(kernel).permute(3, 2, 0, 1).contiguous()  # HWIO to OIHW
        state[f"{names[layer]}.bias"] = torch.from_numpy(bias)
    return state


class _ArraysOnly(pickle.Unpickler):
    """An unpickler of NumPy arrays and nothing else."""

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in {
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
        }:
            raise ValueError(f"refused to unpickle {module}.{name}")
        return super().find_class(module.replace("numpy.core", "numpy._core") if _NUMPY2 else module, name)


_NUMPY2 = int(metadata.version("numpy").split(".")[0]) >= 2
