"""Networks that take images in [0, 1]: the normalisation is inside, as the first module."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fragile_utils._base import checks


class Normalize(nn.Module):
    """Subtract a mean and divide by a standard deviation, per channel; with `bgr`, after reversing the channels.

    The mean may also be an image (3, H, W), subtracted pixel by pixel; the module then takes images of its size only.
    """

    def __init__(self, mean: Sequence[float] | Tensor, std: Sequence[float], bgr: bool = False) -> None:
        super().__init__()
        image = isinstance(mean, Tensor) and mean.ndim == 3 and len(mean) == 3
        mean = mean.detach().clone() if image else _of_channels(mean, "mean", " or an image (3, H, W)")
        std = _of_channels(std, "std")
        if not (std > 0).all():
            raise ValueError(f"std: expected numbers above 0, got {std.flatten().tolist()}")
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)
        self.bgr = bgr

    def forward(self, images: Tensor) -> Tensor:
        if self.bgr:
            images = images.flip(1)
        return (images - self.mean) / self.std


def _of_channels(values: Sequence[float] | Tensor, name: str, other: str = "") -> Tensor:
    """Return three numbers as a tensor (3, 1, 1)."""
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError, RuntimeError):
        numbers = []
    if len(numbers) != 3:
        raise ValueError(f"{name}: expected 3 numbers{other}, got {values!r}")
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"{name}: expected finite numbers, got {values!r}")
    return torch.tensor(numbers).view(3, 1, 1)


class Classifier(nn.Module):
    """A network with its normalisation inside: images (N, 3, H, W) in [0, 1] to logits (N, classes).

    Wrap your own network in it to use it everywhere in the book:
    ``Classifier(my_resnet, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))``.

    Parameters
    ----------
    network : Module
        Takes normalised images, returns logits.
    mean, std : sequence of 3 floats
        In units of images in [0, 1], in the order in which the network takes the channels. The mean may be an image,
        a tensor (3, H, W).
    bgr : bool
        Whether the network takes blue, green, red.
    classes : sequence of str
        The name of each class index, if known.
    size : int, optional
        The side in pixels of the images it was trained on, if that matters.
    beta : float, optional
        Sharpness of its `softplus_surrogate`. By default 255 times the mean of `std`: as close to ReLU, on the scale of
        the network's input, as softplus with beta 1 is for the paper's network, whose inputs are in 0..255.

    Raises
    ------
    ValueError
        If mean or standard deviation are not three numbers, the latter above 0, or `beta` is not above 0.
    """

    def __init__(
        self,
        network: nn.Module,
        mean: Sequence[float] | Tensor,
        std: Sequence[float],
        *,
        bgr: bool = False,
        classes: Sequence[str] = (),
        size: int | None = None,
        beta: float | None = None,
    ) -> None:
        super().__init__()
        checks.instance(network, nn.Module, "network", "a torch.nn.Module")
        if classes is None or isinstance(classes, str) or not all(isinstance(name, str) for name in classes):
            raise ValueError(f"classes: expected a sequence of names, got {classes!r}")
        if size is not None:
            checks.count(size, "size")
        self.normalize = Normalize(mean, std, bgr)
        self.network = network
        self.classes = tuple(classes)
        self.size = size
        self.beta = checks.positive(255 * sum(map(float, std)) / 3 if beta is None else beta, "beta")

    def forward(self, images: Tensor) -> Tensor:
        return self.network(self.normalize(images))
