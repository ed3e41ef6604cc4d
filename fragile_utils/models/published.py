"""Networks of other libraries, by name: ``torchvision:resnet50``, ``timm:vit_tiny_patch16_224``.

Their weights are downloaded on first use, by these libraries. Of torchvision's, the file's SHA-256 must begin with the
eight digits in its name; of timm's, the library pins nothing, and only tensors are read.
"""

from typing import Any

import torchvision
from torch import nn

from fragile_utils._base import schema
from fragile_utils.data.samples import imagenet_classes
from fragile_utils.models.classifier import Classifier

CHANNELS = 3


def from_torchvision(name: str, weights: str | None = "IMAGENET1K_V1") -> Classifier:
    """Return a classifier of torchvision, in evaluation mode, its parameters frozen.

    Parameters
    ----------
    name : str
        As torchvision lists it: ``resnet50``, ``vit_b_16``, ``convnext_tiny``, ``vgg16``, ...
    weights : str or None
        One of the sets of weights that torchvision has of it, downloaded on first use; or None: random ones, drawn from
        torch's global generator. Mean, standard deviation, size and classes are those of the weights, and without
        weights those of the first set.

    Raises
    ------
    ValueError
        If there is no such classifier or set of weights, or they cannot be downloaded.
    """
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise ValueError(f"name: expected a classifier of torchvision, {_some(known, name)}, got {name!r}")
    sets = torchvision.models.get_model_weights(name)
    if weights is not None and weights not in sets.__members__:
        raise ValueError(f"weights: expected one of {', '.join(sets.__members__)} or None, got {weights!r}")
    network = torchvision_network(name, weights and sets[weights])
    chosen = next(iter(sets)) if weights is None else sets[weights]
    preset = chosen.transforms()
    return frozen(
        Classifier(network, preset.mean, preset.std, classes=chosen.meta["categories"], size=preset.crop_size[0])
    )


def torchvision_network(name: str, weights: Any, **options: Any) -> nn.Module:
    """Return a network as torchvision makes it, with one of its sets of weights or None.

    Raises
    ------
    ValueError
        If its weights cannot be downloaded.
    """
    try:
        return torchvision.models.get_model(name, weights=weights, **options)
    except (OSError, RuntimeError) as error:  # no connection; a file of another SHA-256
        raise ValueError(f"torchvision's weights cannot be downloaded: {error}") from error


def from_timm(name: str, pretrained: bool = True) -> Classifier:
    """Return a classifier of timm, in evaluation mode, its parameters frozen. It needs the extra ``timm``.

    Mean, standard deviation and size are those of its configuration; the classes are known if they are ImageNet's.

    Parameters
    ----------
    name : str
        As timm lists it, with or without the tag of its weights: ``vit_tiny_patch16_224``, ``resnet18.a1_in1k``, ...
    pretrained : bool
        With timm's weights, downloaded on first use; or random ones, drawn from torch's global generator.

    Raises
    ------
    ValueError
        If timm is not installed, has no such network, or its weights cannot be downloaded; if the network takes no
        images of three channels and equal sides.
    """
    try:
        import timm
    except ImportError as error:
        raise ValueError("networks of timm need the package timm: pip install 'fragile_utils[timm]'") from error
    if not timm.is_model(name):
        raise ValueError(f"name: expected a network of timm, {_some(timm.list_models(), name)}, got {name!r}")
    try:
        network = timm.create_model(name, pretrained=pretrained)
    except Exception as error:  # whatever its downloaders raise
        raise ValueError(
            f"timm cannot make {name}: {schema.reason(error)}; a function of yours can make it with weights that are "
            "here, file.py:function"
        ) from error
    about = timm.data.resolve_model_data_config(network)
    channels, height, width = about["input_size"]
    if channels != CHANNELS or height != width:
        raise ValueError(f"name: expected a network of square images with 3 channels, {name} has {about['input_size']}")
    is_imagenet = timm.data.infer_imagenet_subset(network) == "imagenet-1k"
    classes = imagenet_classes() if is_imagenet else ()
    return frozen(Classifier(network, about["mean"], about["std"], classes=classes, size=height))


def _some(known: list[str], name: str) -> str:
    """Return a few of the names that begin as `name` does, to go on from; or any."""
    near = [other for other in known if other[:3] == str(name)[:3]] or known
    return f"{', '.join(near[:4])} for instance"


def frozen(model: Classifier) -> Classifier:
    """Return a network as explanations need it: nothing works in place, nothing is trained."""
    for module in model.modules():
        if isinstance(getattr(module, "inplace", None), bool):
            module.inplace = False
    return model.eval().requires_grad_(False)
