"""Images as files hold them: whole levels of 8 bits."""

import torch
from torch import Tensor

LEVELS = 255  # the highest of them


def in_bytes(images: Tensor) -> Tensor:
    """Return images in [0, 1] as uint8 of the same shape: the nearest level of each value, ties to the even one.

    What lies outside of [0, 1] becomes the lowest or the highest level.
    """
    return (images * LEVELS).round().clamp(0, LEVELS).to(torch.uint8)
