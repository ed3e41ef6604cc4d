"""Images as files hold them: whole levels of 8 bits."""

import base64
import io
from typing import Any

import torch
from PIL import Image
from torch import Tensor

LEVELS = 255  # the highest of them


def in_bytes(images: Tensor) -> Tensor:
    """Return images in [0, 1] as uint8 of the same shape: the nearest level of each value, ties to the even one.

    What lies outside of [0, 1] becomes the lowest or the highest level.
    """
    return (images * LEVELS).round().clamp(0, LEVELS).to(torch.uint8)


def picture(image: Tensor) -> Image.Image:
    """Return an image (3, H, W) in [0, 1] as a picture, each value at its nearest level."""
    return Image.fromarray(in_bytes(image.detach().float()).permute(1, 2, 0).cpu().numpy())


def encoded(drawn: Image.Image, kind: str, **options: Any) -> bytes:
    """Return a picture as the contents of a file of this kind, such as ``png``, with `options` of Pillow."""
    contents = io.BytesIO()
    drawn.save(contents, kind, **options)
    return contents.getvalue()


def data_url(contents: bytes, kind: str) -> str:
    """Return the contents of a picture's file as a URL that holds them, for a page that needs no other file."""
    return f"data:image/{kind};base64,{base64.b64encode(contents).decode()}"
