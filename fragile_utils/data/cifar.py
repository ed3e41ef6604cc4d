"""CIFAR-10, all of it: from a folder of the reader's own, or downloaded from its authors."""

from pathlib import Path
from typing import Literal

import numpy as np
import torch

from fragile_utils.data._downloads import Download
from fragile_utils.data.batch import Batch
from fragile_utils.data.folders import cifar10_folder, places, spread
from fragile_utils.data.samples import CIFAR10_CLASSES

CIFAR10 = Download(  # size and SHA-256 as in tensorflow/datasets, url_checksums/cifar10.txt
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    170_052_171,
)


def cifar10(
    split: Literal["train", "test"] = "test",
    root: str | Path | None = None,
    *,
    limit: int | None = None,
    download: bool = False,
    progress: bool = False,
) -> Batch:
    """Read CIFAR-10: 50,000 training images or 10,000 test images of ten classes, 32 x 32 pixels.

    They are looked for in `root` or, without it, in FRAGILE_DATA and then among what was downloaded before: as image
    files ``cifar10/{train,test}/<class>/*``, or as the binary files of the authors in ``cifar-10-batches-bin``.

    Parameters
    ----------
    split : {"train", "test"}
    root : path, optional
    limit : int, optional
        Read only this many images, evenly spread.
    download : bool
        If there are none, download them (170 MB).
    progress : bool
        Show a progress bar while downloading.

    Raises
    ------
    ValueError
        If there are no images, or they cannot be downloaded.

    References
    ----------
    Krizhevsky, *Learning Multiple Layers of Features from Tiny Images*, 2009.
    """
    if split not in ("train", "test"):
        raise ValueError(f"split: expected 'train' or 'test', got {split!r}")
    found = places(root)
    for place in found:
        if (place / "cifar10" / split).is_dir():
            return cifar10_folder(split, place, limit=limit)
        if (place / "cifar-10-batches-bin").is_dir():
            return _binary(place / "cifar-10-batches-bin", split, limit)
    if root is not None or not download:
        raise ValueError(
            f"no cifar10 or cifar-10-batches-bin in {' or '.join(map(str, found))}: set FRAGILE_DATA, "
            "or give download=True (170 MB)"
        )
    wanted = ["data_batch_*.bin", "test_batch.bin"]
    return _binary(CIFAR10.unpacked(found[-1] / "cifar-10-batches-bin", wanted, progress), split, limit)


def _binary(folder: Path, split: str, limit: int | None) -> Batch:
    """Read records of one byte for the class and 3,072 for the pixels: red, green, blue, each row by row."""
    files = sorted(folder.glob("data_batch_*.bin" if split == "train" else "test_batch.bin"))
    contents = [np.fromfile(path, dtype=np.uint8) for path in files]
    if not contents or any(len(content) % 3073 or not len(content) for content in contents):
        raise ValueError(f"{folder}: expected {split} files of records of 3,073 bytes")
    records = torch.from_numpy(np.concatenate(contents)).view(-1, 3073)
    chosen = spread(list(range(len(records))), limit)
    labels, pixels = records[chosen].split([1, 3072], dim=1)
    names = tuple(f"{split} image {i}" for i in chosen)
    return Batch(pixels.reshape(-1, 3, 32, 32).float() / 255, labels[:, 0].long(), CIFAR10_CLASSES, names)
