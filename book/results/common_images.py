"""The images that several networks get right, for `architectures_imagenet.json` and `transfer.py`.

    python book/results/common_images.py FOLDER

copies to FOLDER those of FRAGILE_DATA/imagenet that SqueezeNet and EfficientNet-Lite0 to Lite2 get right: 64 of them,
evenly spread. `cifar10` returns those of CIFAR-10; a sweep calls it as ``book/results/common_images.py:cifar10``. A
sweep of fewer images takes them from `cifar10_500`: they are then some of those of the sweep of 500.
"""

import shutil
import sys
from pathlib import Path

import torch

from fragile_utils import data, models
from fragile_utils._base.devices import pick_device

IMAGENET = ("squeezenet", "efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2")
CIFAR10 = ("cifar10", "cifar10-resnet", "cifar10-vit")
COUNT = 64


def cifar10(*, size: int | None, fit: data.Fit, limit: int | None) -> data.Batch:
    """Return the test images of CIFAR-10 that all networks of the book get right."""
    device = pick_device("auto")
    batch = data.cifar10("test", limit=limit).to(device)
    for name in CIFAR10:
        batch = batch.correct(models.load(name).to(device))
    return batch.to("cpu")


def cifar10_500(*, size: int | None, fit: data.Fit, limit: int | None) -> data.Batch:
    """Return 500 of these, evenly spread: those that a sweep of 500 takes."""
    batch = cifar10(size=size, fit=fit, limit=limit)
    return batch[data.spread(list(range(len(batch))), 500)]


def main(folder: Path) -> None:
    """Copy the images that all networks for ImageNet get right."""
    names = None
    for name in IMAGENET:
        model = models.load(name)
        right = {*data.imagenet_folder(size=model.size).correct(model).names}
        names = right if names is None else names & right
    files = [path for path in data.image_files(data.data_root() / "imagenet") if path.name in names]
    folder.mkdir(parents=True, exist_ok=True)
    for rank in torch.linspace(0, len(files) - 1, COUNT).round().int().tolist():
        shutil.copy(files[rank], folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
