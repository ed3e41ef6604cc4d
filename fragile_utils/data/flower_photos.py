"""TensorFlow's photos of roses and sunflowers: in a folder of the reader's own, or downloaded once."""

from pathlib import Path

from fragile_utils.data._downloads import Download
from fragile_utils.data.batch import Batch
from fragile_utils.data.folders import class_folders, places
from fragile_utils.data.reading import Fit
from fragile_utils.data.samples import IMAGENET_SIZE

FLOWER_CLASSES = ("roses", "sunflowers")
FLOWER_PHOTOS = Download(  # size and SHA-256 as in tensorflow/datasets, url_checksums/tf_flowers.txt
    "https://storage.googleapis.com/download.tensorflow.org/example_images/flower_photos.tgz",
    "4c54ace7911aaffe13a365c34f650e71dd5bf1be0a58b464e5a7183e3e595d9c",
    228_813_984,
)


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
        wanted = ["LICENSE.txt", *(f"{name}/*.jpg" for name in FLOWER_CLASSES)]
        found = [FLOWER_PHOTOS.unpacked(folders[-1], wanted, progress)]
    if not found:
        places = " or ".join(map(str, folders))
        raise ValueError(f"no flower photos in {places}: set FRAGILE_DATA, or give download=True (229 MB)")
    return class_folders(found[0], FLOWER_CLASSES, size=size, fit=fit, limit=limit)


def has_flowers(root: str | Path | None = None) -> bool:
    """Return whether `flowers` finds photos without a download."""
    return any(folder.is_dir() for folder in _flower_folders(root))


def _flower_folders(root: str | Path | None) -> list[Path]:
    """Return where to look for the photos; last, without `root`, where a download goes."""
    return [place / "flower_photos" for place in places(root)]
