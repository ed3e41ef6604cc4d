"""What a user names on the command line, read as a batch."""

from pathlib import Path

from fragile_utils.data.batch import UNKNOWN, Batch
from fragile_utils.data.folders import expanded, find_wnid, image_files, imagenet_folder, kind, spread
from fragile_utils.data.reading import Fit, read_files
from fragile_utils.data.samples import IMAGENET_SIZE, SAMPLES, imagenet_wnids


def load(source: str | Path, *, size: int | None = IMAGENET_SIZE, fit: Fit = "crop", limit: int | None = None) -> Batch:
    """Read what a user names on the command line: an embedded sample, an image file, or a folder of images.

    They are brought to `size` x `size` pixels, but for the samples of CIFAR-10 and MNIST, which keep their size.
    Images in a folder get their ImageNet class where every file or folder name holds a WordNet id; otherwise, and for
    a single file, the label is `UNKNOWN`, to be filled in with `Batch.labelled_by`. Of samples and folders at most
    `limit` images are read, evenly spread over them.

    Raises
    ------
    ValueError
        If it is no name and no path, there is nothing, or it cannot be read.
    """
    path = expanded(source, "source")
    if str(source) in SAMPLES:
        sized = {"size": size} if size is not None and str(source) == "imagenet-samples" else {}
        batch = SAMPLES[str(source)](**sized)
        return batch[spread(list(range(len(batch))), limit)]
    found = kind(path)
    if found == "folder":
        files = spread(image_files(path), limit)
        if all(find_wnid(file) in imagenet_wnids() for file in files):
            return imagenet_folder(path, size=size, fit=fit, limit=limit)
        return read_files([(file, UNKNOWN) for file in files], (), size, fit)
    if found is None:
        raise ValueError(f"no such file or folder: {path} (the embedded samples are {', '.join(SAMPLES)})")
    return read_files([(path, UNKNOWN)], (), size, fit)
