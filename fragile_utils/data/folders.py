"""Folders of images of the reader's own. They may be named by environment variables, read here alone."""

import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from fragile_utils._base import checks, schema
from fragile_utils.data.batch import Batch
from fragile_utils.data.reading import HEIC, Fit, read_files
from fragile_utils.data.samples import CIFAR10_CLASSES, IMAGENET_SIZE, imagenet_classes, imagenet_wnids

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
SUFFIXES |= {".pbm", ".pgm", ".pnm", ".ppm"}
SUFFIXES |= {".avif", ".j2k", ".jfif", ".jp2", ".jpe"}  # .avif: where Pillow is built with it, and refused by name else
_HEIF = {".heic", ".heif", ".hif"}
_RAW = {".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".erf", ".iiq", ".kdc", ".mrw", ".nef", ".nrw", ".orf", ".pef"}
_RAW |= {".raf", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"}  # what the sensors of cameras have seen
UNREADABLE = _HEIF | _RAW | {".jxl"}  # photographs all the same, which nobody may leave out in silence
_WNID = re.compile(r"n\d{8}")


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
    path = expanded(chosen, "root")
    if kind(path) != "folder":
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
    paths = spread(image_files(folder), limit)
    return read_files([(path, _imagenet_label(path)) for path in paths], imagenet_classes(), size, fit)


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
    folder = expanded(root, "root")
    if kind(folder) != "folder" and not folder.is_absolute() and os.environ.get("FRAGILE_DATA"):
        folder = data_root() / root
    folder = data_root(folder)
    found = sorted(name for name in next(_walk(folder))[1] if not name.startswith("."))
    classes = tuple(classes) if classes is not None else tuple(found)
    missing = sorted(set(classes) - set(found))
    if missing or not classes:
        raise ValueError(f"{folder}: expected a folder for each class, missing: {', '.join(missing) or 'all'}")
    files = [(path, label) for label, name in enumerate(classes) for path in image_files(folder / name)]
    return read_files(spread(files, limit), classes, size, fit)


def cifar10_folder(
    split: Literal["train", "test"] = "test", root: str | Path | None = None, *, limit: int | None = None
) -> Batch:
    """Read CIFAR-10 from ``cifar10/{train,test}/<class>/*`` in `root`, or in FRAGILE_DATA."""
    if split not in ("train", "test"):
        raise ValueError(f"split: expected 'train' or 'test', got {split!r}")
    return class_folders(data_root(root) / "cifar10" / split, CIFAR10_CLASSES, size=32, limit=limit)


def places(root: str | Path | None) -> list[Path]:
    """Return the folders in which to look for data; last, without `root`, the one for downloads."""
    own = [data_root(root)] if root is not None or os.environ.get("FRAGILE_DATA") else []
    return own if root is not None else [*own, cache_folder()]


def cache_folder() -> Path:
    """Return the folder for downloads: FRAGILE_CACHE, or ``fragile_utils`` in the user's cache."""
    if chosen := os.environ.get("FRAGILE_CACHE"):
        return expanded(chosen, "FRAGILE_CACHE")
    return expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "XDG_CACHE_HOME") / "fragile_utils"


def image_files(folder: Path) -> list[Path]:
    """Return the image files in a folder and those below it, sorted; files whose name begins with a dot are none.

    A linked folder is one of them; each folder is read once, whatever leads to it.

    Raises
    ------
    ValueError
        If there are none, one is a photograph of a kind that is not read, or a folder cannot be read.
    """
    named = (Path(place, name) for place, _, names in _walk(folder) for name in names)
    found = (path for path in named if path.suffix.lower() in SUFFIXES | UNREADABLE and path.name[0] != ".")
    files = sorted((path for path in found if path.is_file()), key=lambda path: path.parts)  # alike on each system
    for path in files:
        if (ending := path.suffix.lower()) in UNREADABLE:
            why = HEIC if ending in _HEIF else f"files ending in {ending} are not read here; save it as JPEG or PNG"
            raise ValueError(f"cannot read {schema.shown(str(path))[1:-1]} as an image: {why}, or leave it out")
    if not files:
        raise ValueError(f"no images in {folder}: expected files ending in {', '.join(sorted(SUFFIXES))}")
    return files


def expanded(given: str | Path, name: str) -> Path:
    """Return a path that a reader gives, ``~`` in it replaced; `name` is what an error calls it."""
    if not isinstance(given, (str, Path)) or not str(given):
        raise ValueError(f"{name}: expected a name or a path, got {schema.shown(given)}")
    try:
        return Path(given).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{name}: there is no home folder for {schema.shown(str(given))}") from error


def kind(path: Path) -> Literal["folder", "file"] | None:
    """Return what there is at a path.

    Raises
    ------
    ValueError
        If that cannot be found out: the name is too long, or a folder on the way may not be read.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or error
        raise ValueError(f"cannot read {schema.shown(str(path))}: {said}") from error
    return "folder" if stat.S_ISDIR(mode) else "file"


def spread(items: list, limit: int | None) -> list:
    """Return at most `limit` of the items, evenly spread over them."""
    if limit is None or checks.count(limit, "limit") >= len(items):
        return items
    return [items[i * len(items) // limit] for i in range(limit)]


def find_wnid(path: Path) -> str | None:
    """Return the WordNet id in the name of a file or of its folder."""
    match = _WNID.search(path.name) or _WNID.fullmatch(path.parent.name)
    return match and match[0]


def _walk(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield what `os.walk` does, each folder once, after all others those to which links lead.

    A folder that cannot be read is an error, and not an empty one.
    """

    def refuse(error: OSError) -> None:
        raise ValueError(f"cannot read {error.filename}: {error.strerror}") from error

    seen, starts = set(), [str(folder)]
    for start in starts:  # which grow on the way
        for place, folders, names in os.walk(start, onerror=refuse):
            real = os.path.realpath(place)
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            folders.sort()
            starts += [path for name in folders if os.path.islink(path := os.path.join(place, name))]
            yield place, folders, names


def _imagenet_label(path: Path) -> int:
    wnid = find_wnid(path)
    if wnid not in imagenet_wnids():
        raise ValueError(f"{path}: expected an ImageNet WordNet id such as n01443537 in the name of file or folder")
    return imagenet_wnids()[wnid]
