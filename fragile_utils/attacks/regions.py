"""Regions of an image, as boolean masks (H, W): where a targeted attack is to move an explanation."""

import re
from collections.abc import Sequence
from numbers import Integral

import numpy as np
import torch
from torch import Tensor

from fragile_utils._base import checks


def rectangle(height: int, width: int, *, top: int, left: int, bottom: int, right: int) -> Tensor:
    """Return the mask (height, width) of rows `top` to `bottom` - 1 and columns `left` to `right` - 1.

    Raises
    ------
    ValueError
        If the rectangle is empty or leaves the image.
    """
    checks.count(height, "height")
    checks.count(width, "width")
    for low, high, size, name in ((top, bottom, height, "top and bottom"), (left, right, width, "left and right")):
        if not (_is_whole(low) and _is_whole(high) and 0 <= low < high <= size):
            raise ValueError(f"{name}: expected 0 <= first < second <= {size}, got {low} and {high}")
    mask = torch.zeros(height, width, dtype=torch.bool)
    mask[top:bottom, left:right] = True
    return mask


def superpixels(image: Tensor, segments: int = 50, compactness: float = 10.0) -> Tensor:
    """Return the superpixel (H, W) that each pixel belongs to, counted from 0, by SLIC.

    Parameters
    ----------
    image : Tensor (3, H, W)
        In [0, 1].
    segments : int
        About how many superpixels.
    compactness : float
        The larger, the more alike their shapes; the smaller, the closer they follow colours.

    Raises
    ------
    ValueError
        If an argument is not as described.

    References
    ----------
    Achanta et al., *SLIC Superpixels Compared to State-of-the-Art Superpixel Methods*, IEEE TPAMI 34(11), 2012; as
    implemented in scikit-image.
    """
    from skimage.segmentation import slic  # a second to import, for those who need it

    if not isinstance(image, Tensor) or image.ndim != 3:
        raise ValueError(f"image: expected a tensor (3, H, W), got {checks.described(image)}")
    checks.images(image[None], "image")
    checks.count(segments, "segments", at_most=image[0].numel())
    checks.positive(compactness, "compactness")
    values = image.detach().cpu().double().clamp(0, 1).permute(1, 2, 0).numpy()
    found = slic(values, n_segments=segments, compactness=compactness, start_label=0)
    return torch.from_numpy(found.astype(np.int64))


def region_from_slic(image: Tensor, at: tuple[int, int], segments: int = 50, compactness: float = 10.0) -> Tensor:
    """Return the mask (H, W) of the superpixel that contains the pixel `at` = (row, column).

    Other arguments and errors as for `superpixels`.
    """
    found = superpixels(image, segments, compactness)
    pair = isinstance(at, Sequence) and not isinstance(at, str) and len(at) == 2
    row, column = at if pair else (None, None)
    if not (_is_whole(row) and _is_whole(column) and 0 <= row < found.shape[0] and 0 <= column < found.shape[1]):
        raise ValueError(f"at: expected a pixel of an image of {tuple(found.shape)}, got {at!r}")
    return found == found[row, column]


def _is_whole(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


# --- As one writes them: four numbers for a rectangle, two for a superpixel ------------------------------------------

FORMS = "TOP,LEFT,BOTTOM,RIGHT in pixels, or slic:ROW,COLUMN for the superpixel there"


def is_region(places: object) -> bool:
    """Return whether `places` is a region as `masks` takes it."""
    numbers = isinstance(places, (tuple, list)) and all(type(place) is int for place in places)
    return numbers and len(places) in (2, 4)


def parse(text: str) -> tuple[int, ...]:
    """Return the region that "20,20,80,80" or "slic:50,50" describes, as `masks` takes it.

    Raises
    ------
    ValueError
        If it is neither; the message says what was got.
    """
    number = r"\s*(-?\d{1,9})\s*"
    for form in (rf"{number},{number},{number},{number}", rf"slic:{number},{number}"):
        if found := re.fullmatch(form, text, re.ASCII):
            return tuple(map(int, found.groups()))
    raise ValueError(f"got {text!r}")


def masks(places: Sequence[int], images: Tensor) -> Tensor:
    """Return a region of images (N, 3, H, W) as a targeted attack takes it.

    Parameters
    ----------
    places : sequence of int
        Four: top, left, bottom and right of a `rectangle`, one for all images. Two: row and column; of each image the
        superpixel there, by `region_from_slic`.

    Returns
    -------
    Tensor (H, W) or (N, H, W), bool
    """
    if not is_region(places):
        raise ValueError(f"region: expected four numbers, or two, got {places!r}")
    if len(places) == 2:
        return torch.stack([region_from_slic(image, (places[0], places[1])) for image in images])
    top, left, bottom, right = places
    return rectangle(*images.shape[-2:], top=top, left=left, bottom=bottom, right=right)
