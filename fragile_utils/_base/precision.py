"""The precision of float32, on a GPU and where a CPU could do with less.

NVIDIA's GPUs may multiply float32 numbers with 10 bits of mantissa (TensorFloat-32), and PyTorch lets convolutions do
so unless told otherwise. A saliency map, and the signs that an attack steps along, are differences of such products:
here they are computed in full float32, and in TensorFloat-32 on request only. bfloat16 is not offered, on a CPU
neither: it flips about one sign in six.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def float32(tf32: bool = False) -> Iterator[None]:
    """Compute in full float32, or on a GPU with `tf32` in TensorFloat-32; afterwards all is as it was."""
    with _newer("tf32" if tf32 else "ieee") if _newer_is_used() else _older(tf32), _on_cpu():
        yield


def autocast(device: torch.device) -> bool:
    """Return whether autocast is on for a device; some have none, and are not to be asked."""
    return torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)


def _newer_is_used() -> bool:
    """Return whether the caller has used PyTorch's newer settings (2.9 on), which do not mix with the older ones."""
    of_all = (torch.backends, torch.backends.cudnn)
    if any(getattr(place, "fp32_precision", "none") != "none" for place in of_all):
        return True
    try:
        _ = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    except RuntimeError:  # a mix of both
        return True
    return False


@contextmanager
def _older(tf32: bool) -> Iterator[None]:
    convolutions, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = convolutions.allow_tf32, products.allow_tf32
    try:
        medium = torch.get_float32_matmul_precision() == "medium"  # less precise than `allow_tf32` can say
    except RuntimeError:  # nested in itself, where it was
        medium = False
    convolutions.allow_tf32 = products.allow_tf32 = tf32
    try:
        yield
    finally:
        convolutions.allow_tf32, products.allow_tf32 = before
        if medium:
            torch.set_float32_matmul_precision("medium")


@contextmanager
def _newer(name: str) -> Iterator[None]:
    places = torch.backends.cudnn.conv, torch.backends.cuda.matmul
    before = [place.fp32_precision for place in places]
    for place in places:
        place.fp32_precision = name
    try:
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.fp32_precision = value


@contextmanager
def _on_cpu() -> Iterator[None]:
    """Let oneDNN compute in float32 if the caller (PyTorch 2.9 on) lets it do with bfloat16."""
    places = [getattr(torch.backends.mkldnn, name, None) for name in ("conv", "matmul")]
    lower = [place for place in places if getattr(place, "fp32_precision", "none") == "bf16"]
    for place in lower:
        place.fp32_precision = "ieee"
    try:
        yield
    finally:
        for place in lower:
            place.fp32_precision = "none"  # as is set for all
            if place.fp32_precision != "bf16":
                place.fp32_precision = "bf16"
