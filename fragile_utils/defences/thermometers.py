"""Thermometer-encoded inputs: each value of a pixel becomes a column of bits, and gradients end there."""

import torch
from torch import Tensor, nn

from fragile_utils._base import checks, schema


def thermometer(images: Tensor, levels: int) -> Tensor:
    """Return the code (N, 3 levels, H, W) of images (N, 3, H, W): bit l of a value v is 1 if v > l / levels.

    The bits of a channel stand together, l from 0 on. The image is clamped to [0, 1]; a value of 0 has no bit.

    References
    ----------
    Buckman et al., *Thermometer Encoding: One Hot Way To Resist Adversarial Examples*, ICLR 2018, section 3.
    """
    return (images.clamp(0, 1)[:, :, None] > _thresholds(images, levels)).to(images.dtype).flatten(1, 2)


def ramp(images: Tensor, levels: int) -> Tensor:
    """Return the piecewise-linear code (N, 3 levels, H, W): bit l of v is min(max(levels v - l, 0), 1).

    It is the hard code with the last bit filled in part, and has a derivative almost everywhere: `levels` for the bit
    in whose interval v lies.

    References
    ----------
    Athalye, Carlini, Wagner, *Obfuscated Gradients Give a False Sense of Security*, ICML 2018, arXiv:1802.00420,
    section 5.
    """
    return ((images[:, :, None] - _thresholds(images, levels)) * levels).clamp(0, 1).flatten(1, 2)


class ThermometerNetwork(nn.Module):
    """A network behind a thermometer code: images (N, 3, H, W) in [0, 1] to logits.

    Forward, the code is hard. Its derivative is 0 almost everywhere, and undefined elsewhere, so that a gradient with
    respect to the image does not exist. The backward pass uses the derivative of the piecewise-linear code in its place
    (backward pass differentiable approximation), and that is both what a gradient displays here and what an attack
    differentiates, in the second pass too. With ``backward="none"`` the derivative is 0, as it is in truth.

    Parameters
    ----------
    network : Module
        From codes (N, 3 levels, H, W) to logits; or, with `decode`, from images in [0, 1].
    levels : int
        Bits of a value; 16 in the paper.
    decode : bool
        Whether the mean of a channel's bits, an image of `levels` + 1 values, is what the network gets: for networks
        that were trained on images.
    backward : {"ramp", "none"}
        What stands for the derivative of the code.

    Raises
    ------
    ValueError
        If a parameter is not as described.
    """

    def __init__(self, network: nn.Module, levels: int = 16, *, decode: bool = False, backward: str = "ramp") -> None:
        super().__init__()
        checks.instance(network, nn.Module, "network", "a torch.nn.Module")
        schema.whole(levels, "levels", low=2)
        if backward not in ("ramp", "none"):
            raise ValueError(f"backward: expected 'ramp' or 'none', got {backward!r}")
        self.network, self.levels, self.decode, self.backward = network, levels, bool(decode), backward
        self.training = network.training
        if hasattr(network, "beta"):
            self.beta = network.beta

    def forward(self, images: Tensor) -> Tensor:
        code = _Code.apply(images, self.levels, self.backward == "ramp")
        if self.decode:
            code = code.unflatten(1, (3, self.levels)).mean(dim=2)
        return self.network(code)


class _Code(torch.autograd.Function):
    """The hard code, differentiated as if it were the piecewise-linear one, or constant."""

    @staticmethod
    def forward(images: Tensor, levels: int, ramp: bool) -> Tensor:
        return thermometer(images, levels)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        images, ctx.levels, ctx.ramp = inputs
        ctx.save_for_backward(images)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, None, None]:
        (images,) = ctx.saved_tensors
        bit = (images * ctx.levels).ceil().sub(1).clamp(0, ctx.levels - 1).long()  # in whose interval the value lies
        slope = ctx.levels * ctx.ramp * ((images >= 0) & (images <= 1)).to(grad.dtype)
        # The slope is constant almost everywhere, so that the derivative of this with respect to the gradient is all.
        return grad.unflatten(1, (3, ctx.levels)).gather(2, bit[:, :, None]).squeeze(2) * slope, None, None


def _thresholds(images: Tensor, levels: int) -> Tensor:
    """Return where the bits begin, l / levels, as a tensor (levels, 1, 1)."""
    return torch.arange(levels, device=images.device, dtype=images.dtype).view(-1, 1, 1) / levels
