"""Baselines: the reference images that integrated gradients and DeepLIFT compare an image with."""

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torchvision.transforms.functional import gaussian_blur

from fragile_utils import models
from fragile_utils._base import checks
from fragile_utils._base.contents import by_content
from fragile_utils._base.held import PerImage
from fragile_utils._base.once import once

BLUR = 1 / 16  # the standard deviation of the blur, as a share of the shorter side
NAMES = ("mean", "blur")


@dataclass(frozen=True, eq=False, repr=False)
class Baseline(PerImage):
    """The reference x0 of integrated gradients and DeepLIFT: an image in which nothing is to be seen.

    Two baselines are equal when their values are.

    Parameters
    ----------
    value : "mean", "blur", float or Tensor
        "mean": the paper's, equal to what the model subtracts, so that the network inside gets zeros: the mean of each
        channel or, for `models.cifar10_net`, the mean image; the model must contain a `models.Normalize`, as a
        `models.Classifier` does. "blur": the image itself without its detail (`blurred`), of which integrated
        gradients alone know the derivative. A number in [0, 1]: a grey image (0 is black). A tensor (3, 1, 1),
        (3, H, W) or (N, 3, H, W) in [0, 1]: any image, one for all or one for each.
    """

    value: "Literal['mean', 'blur'] | float | Tensor" = "mean"

    def __post_init__(self) -> None:
        value = self.value
        if isinstance(value, Baseline):
            value = value.value
        elif isinstance(value, Tensor):
            if value.ndim not in (3, 4):
                raise ValueError(
                    f"baseline: expected shape (3, 1, 1), (3, H, W) or (N, 3, H, W), got {tuple(value.shape)}"
                )
            checks.images(value if value.ndim == 4 else value[None], "baseline")
            value = value.detach().clone()
        elif isinstance(value, bool) or not (0 <= value <= 1 if isinstance(value, Real) else _is_name(value)):
            got = repr(value) if isinstance(value, (str, Real)) else checks.described(value)
            raise ValueError(f"baseline: expected 'mean', 'blur', a number in [0, 1] or a tensor, got {got}")
        object.__setattr__(self, "value", value)

    @property
    def follows(self) -> bool:
        """Whether it is a function of the image, and changes when the image does."""
        return isinstance(self.value, str) and self.value == "blur"

    def image(self, model: nn.Module, images: Tensor) -> Tensor:
        """Return the reference for `images` (N, 3, H, W): (N, 3, H, W), or (1, 3, H, W) if it is one for all."""
        value = self.value
        if self.follows:
            return blurred(images)
        if isinstance(value, str):
            value = _subtracted(model)
        value = torch.as_tensor(value, dtype=images.dtype, device=images.device)
        value = value[None] if value.ndim == 3 else value
        try:
            expanded = value.expand(len(value) if value.ndim == 4 else 1, *images.shape[1:])
        except RuntimeError:
            expanded = None
        if expanded is None or len(expanded) not in (1, len(images)):
            raise ValueError(f"baseline: expected one for images of shape {tuple(images.shape)}, got {self}")
        return expanded.contiguous()

    def image_in_a_run(self, model: nn.Module, images: Tensor) -> Tensor:
        """Return the same; in a run (`once.run`), where it is one for all, always the same tensor."""
        if self.follows or (isinstance(self.value, Tensor) and self.value.ndim == 4):
            return self.image(model, images)
        return once(f"baseline {images.shape[1:]} {images.dtype}", (self, model), lambda: self.image(model, images))

    def of(self, rows: Tensor) -> "Baseline":
        """Return the baseline of some of the images, `rows` (N,) of bool; itself where it is one for all."""
        value = self.value
        if not isinstance(value, Tensor) or value.ndim == 3 or len(value) == 1 or not rows.any():
            return self
        if len(value) != len(rows):
            raise ValueError(f"baseline: expected one for each of {len(rows)} images, got {self}")
        return Baseline(value[rows.to(value.device)])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Baseline) and by_content(self.value) == by_content(other.value)

    def __hash__(self) -> int:
        return hash(by_content(self.value))

    def __repr__(self) -> str:
        if not isinstance(self.value, Tensor):
            return f"Baseline({self.value!r})"
        return f"Baseline(tensor {tuple(self.value.shape)}, sha256 {by_content(self.value)[-1][:12]})"


def blurred(images: Tensor) -> Tensor:
    """Return images (N, 3, H, W) under a Gaussian of which the standard deviation is a sixteenth of the shorter side.

    Beyond its edges an image is continued by its mirror image. It can be differentiated with respect to the images.

    References
    ----------
    Sturmfels, Lundberg, Lee, *Visualizing the Impact of Feature Attribution Baselines*, Distill 2020, "the blurred
    baseline".
    """
    sigma = BLUR * min(images.shape[2:])
    width = 2 * math.ceil(3 * sigma) + 1
    for kernel in ([width, 1], [1, width]):  # one after the other is the same, and faster
        images = gaussian_blur(images, kernel, [sigma, sigma])
    return images


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value in NAMES  # an array would compare its elements


def _subtracted(model: nn.Module) -> Tensor:
    """Return the mean (3, 1, 1) or (3, H, W), red first, that the model subtracts from its images."""
    for module in model.modules():
        if isinstance(module, models.Normalize):
            return module.mean.flip(0) if module.bgr else module.mean
    raise ValueError(
        "baseline 'mean': expected a model with a models.Normalize that says what it subtracts; wrap it in "
        "models.Classifier, or give the baseline as a number or a tensor"
    )
