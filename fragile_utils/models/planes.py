"""Which axes of what a layer returns are the image plane: the last two, or it is refused."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def plane_is_last(layer: nn.Module) -> bool:
    """Return whether a layer returns maps (N, channels, h, w) by definition, as PyTorch's own layers for images do."""
    kind = type(layer)
    return kind.__module__.startswith("torch.nn.") and kind.__name__.endswith("2d")


@torch.no_grad()
def check_plane(shape_for: Callable[[Tensor], torch.Size], images: Tensor, shape: torch.Size, expected: str) -> None:
    """Refuse an output (N, a, b, c) unless, with images twice as large, b and c grow, or are 1, and a does not.

    Parameters
    ----------
    shape_for : callable
        From images to the shape of the output.
    images : Tensor (N, 3, H, W)
    shape : Size
        That of the output for these images.
    expected : str
        With what an error begins: "layer: expected ...".
    """
    expected = f"{expected}, got {tuple(shape)}"
    try:
        larger = shape_for(images[:1].repeat(1, 1, 2, 2))
    except Exception as error:  # whatever the network's own code raises
        raise ValueError(
            f"{expected}, of which the plane is not known, since larger images are not taken; name a Conv2d or "
            "another of PyTorch's own layers for images"
        ) from error
    grows = (b > a or a == b == 1 for a, b in zip(shape[2:], larger[2:], strict=True))
    if larger[1] != shape[1] or not all(grows):
        raise ValueError(
            f"{expected}, and {tuple(larger)} from an image twice as large: the channels are not the second axis; "
            "name another layer"
        )
