"""Networks that take images in [0, 1] and return logits, and their softplus surrogates.

A `Classifier` carries its normalisation inside, as its first module, so that a budget in pixel values means the same
for every network. `load` makes one of whatever a name stands for, `wrap` of any module. `softplus_surrogate` makes the
network that the attacks differentiate twice.
"""

from fragile_utils.models.classifier import Classifier, Normalize
from fragile_utils.models.door import check_network
from fragile_utils.models.kinks import kinks_left
from fragile_utils.models.loading import PREFIXES, load
from fragile_utils.models.pretrained import (
    CIFAR10_TRAINED,
    MODELS,
    cifar10_net,
    cifar10_resnet,
    cifar10_trained,
    cifar10_vit,
    efficientnet_lite,
    efficientnet_lite0,
    inception,
    squeezenet,
)
from fragile_utils.models.published import from_timm, from_torchvision
from fragile_utils.models.smooth_pooling import SmoothPooling, smooth_surrogate
from fragile_utils.models.surrogate import SoftplusSurrogate, choose_beta, softplus_surrogate
from fragile_utils.models.wrapping import Wrapped, wrap

__all__ = [
    "CIFAR10_TRAINED",
    "MODELS",
    "PREFIXES",
    "Classifier",
    "Normalize",
    "SmoothPooling",
    "SoftplusSurrogate",
    "Wrapped",
    "check_network",
    "choose_beta",
    "cifar10_net",
    "cifar10_resnet",
    "cifar10_trained",
    "cifar10_vit",
    "efficientnet_lite",
    "efficientnet_lite0",
    "from_timm",
    "from_torchvision",
    "inception",
    "kinks_left",
    "load",
    "smooth_surrogate",
    "softplus_surrogate",
    "squeezenet",
    "wrap",
]
