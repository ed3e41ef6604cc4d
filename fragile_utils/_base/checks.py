"""What a well-formed input is. Public functions call these at the door; inside, nothing is checked twice."""

import math
from numbers import Integral

import torch
from torch import Tensor, nn

from fragile_utils._base import schema

TOLERANCE = 1e-4  # how far outside [0, 1] a pixel may lie: resampling and float16 files overshoot by about this much


def images(x: Tensor, name: str = "images") -> Tensor:
    """Return `x` if it is a batch of images (N, 3, H, W), of float32 or float64, finite, in [0, 1].

    In half precision and bfloat16 sums over the pixels overflow, and small terms of a derivative are zero.

    Raises
    ------
    ValueError
        With what was expected and what was got.
    """
    expected = f"{name}: expected a floating-point tensor (N, 3, H, W) in [0, 1]"
    if not isinstance(x, Tensor):
        raise ValueError(f"{expected}, got {type(x).__name__}")
    if x.layout is not torch.strided or x.is_nested or x.is_meta:
        kind = "nested" if x.is_nested else "meta" if x.is_meta else str(x.layout).removeprefix("torch.")
        raise ValueError(f"{expected}, got a {kind} tensor")
    if torch.is_inference_mode_enabled():
        got = "a call in torch.inference_mode(), where nothing has a gradient; use torch.no_grad()"
        raise ValueError(f"{expected}, got {got}")
    if x.is_inference():
        raise ValueError(f"{expected}, got one made in inference mode, which has no gradient; give images.clone()")
    if x.ndim != 4 or x.shape[1] != 3:
        hint = "; add the batch dimension with image[None]" if x.ndim == 3 else ""
        raise ValueError(f"{expected}, got shape {tuple(x.shape)}{hint}")
    if not x.is_floating_point():
        raise ValueError(f"{expected}, got dtype {x.dtype}; convert with images.float() / 255")
    if x.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"{expected} of float32 or float64, got dtype {x.dtype}; convert with {name}.float()")
    if x.numel() == 0:
        raise ValueError(f"{expected} with at least one image, got shape {tuple(x.shape)}")
    low, high = (value.item() for value in x.detach().aminmax())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"{expected}, got values that are not finite (NaN or infinity)")
    if low < -TOLERANCE or high > 1 + TOLERANCE:
        hint = "; divide by 255" if low >= 0 and 2 < high <= 255 else ""
        raise ValueError(f"{expected}, got values from {low:g} to {high:g}{hint}")
    return x


def labels(
    y: Tensor,
    count: int,
    classes: int | None = None,
    name: str = "labels",
    device: torch.device | None = None,
    least: int = 0,
) -> Tensor:
    """Return `y` if it is one class index (int64) for each of `count` images, from `least` to `classes` - 1.

    They are on `device`, if that is given.
    """
    expected = f"{name}: expected an integer tensor ({count},)"
    if not isinstance(y, Tensor):
        raise ValueError(f"{expected}, got {described(y)}")
    if tuple(y.shape) != (count,):
        raise ValueError(f"{expected}, got shape {tuple(y.shape)}")
    if y.dtype != torch.int64:
        raise ValueError(f"{expected} of int64, got dtype {y.dtype}; convert with {name.split()[-1]}.long()")
    if device is not None and y.device != device:
        raise ValueError(f"{expected} on {device}, where the images are, got one on {y.device}")
    if not count:
        return y
    low, high = (value.item() for value in y.aminmax())
    if low < least or (classes is not None and high >= classes):
        limit = f"at least {least}" if classes is None else f"from {least} to {classes - 1}"
        raise ValueError(f"{name}: expected classes {limit}, got {low if low < least else high}")
    return y


def maps(m: Tensor, name: str = "maps") -> Tensor:
    """Return `m` if it is a batch of saliency maps (N, H, W): floating point, finite, non-negative."""
    expected = f"{name}: expected finite, non-negative saliency maps (N, H, W)"
    if not isinstance(m, Tensor):
        raise ValueError(f"{expected}, got {type(m).__name__}")
    if m.ndim != 3 or m.numel() == 0:
        raise ValueError(f"{expected}, got shape {tuple(m.shape)}")
    if not m.is_floating_point():
        raise ValueError(f"{expected}, got dtype {m.dtype}")
    low, high = (value.item() for value in m.detach().aminmax())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"{expected}, got values that are not finite (NaN or infinity)")
    if low < 0:
        raise ValueError(f"{expected}, got a value of {low:g}")
    return m


def same_shape(a: Tensor, b: Tensor) -> None:
    """Refuse two batches that cannot be compared row by row."""
    if a.shape != b.shape:
        raise ValueError(f"expected two batches of one shape, got {tuple(a.shape)} and {tuple(b.shape)}")


def described(x: object) -> str:
    """Return what an error says of `x` where a tensor was expected: its shape, or the type that it is instead."""
    return str(tuple(x.shape)) if isinstance(x, Tensor) else "None" if x is None else type(x).__name__


def positive(value: float, name: str, below: float = math.inf) -> float:
    """Return `value` if it is a finite number above zero, and below `below`."""
    return schema.number(value, name, below=below)


def non_negative(value: float, name: str, below: float = math.inf) -> float:
    """Return `value` if it is a finite number, zero or above, and below `below`."""
    return schema.number(value, name, zero=True, below=below)


def budget(value: float, name: str = "eps") -> float:
    """Return `value` if it is a budget: above 0 and at most 1, since images are in [0, 1]."""
    made = positive(value, name)
    if made > 1:
        raise ValueError(
            f"{name}: expected at most 1, since images are in [0, 1]; for {made:g} levels give {made:g} / 255"
        )
    return made


def count(value: int, name: str, at_most: int = schema.LARGEST) -> int:
    """Return `value` if it is a whole number from 1 to `at_most`."""
    return schema.whole(value, name, high=at_most)


def seed(value: int, name: str = "seed") -> int:
    """Return `value` if it is a whole number from which PyTorch draws, or NumPy's; image i draws from `value` + i."""
    number = int(value) if isinstance(value, Integral) and not isinstance(value, bool) else value
    return schema.whole(number, name, -(2**63), 2**63 - 1)  # PyTorch takes twice as much: the rest is for + i


def instance(value: object, kind: type, name: str, such_as: str) -> None:
    """Refuse what is not a `kind`, a class that was not called above all."""
    if not isinstance(value, kind):
        got = f"the class {value.__name__}, which is still to be called" if isinstance(value, type) else repr(value)
        raise ValueError(f"{name}: expected a value such as {such_as}, got {got}")


def is_program(module: nn.Module) -> bool:
    """Return whether this is what ``torch.export.export(...).module()`` returns, which refuses ``eval()``."""
    return isinstance(module, torch.fx.GraphModule) and "eval" in vars(module)  # a refusal, put there by PyTorch


def evaluation_mode(model: nn.Module) -> nn.Module:
    """Return `model` if all of it is in evaluation mode: active dropout and batch norm change an explanation."""
    if not isinstance(model, nn.Module):
        raise ValueError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    training = {name or type(model).__name__: module for name, module in model.named_modules() if module.training}
    for name, module in training.items():
        if is_program(module):
            known = "the module of a program of torch.export, which knows no evaluation mode"
            raise ValueError(f"model: {name} is {known}; give the program alone to models.wrap")
    if training:
        first, *_ = training
        raise ValueError(f"model: expected evaluation mode, got training mode in {first}; call model.eval()")
    return model


def logits_shape(scores: Tensor, count: int) -> Tensor:
    """Return `scores` if a model answered `count` images with logits (N, classes), whatever their values."""
    if not isinstance(scores, Tensor) or scores.ndim != 2 or len(scores) != count:
        raise ValueError(f"model: expected logits ({count}, classes), got {described(scores)}")
    return scores


def logits(scores: Tensor, count: int) -> Tensor:
    """Return `scores` if a model answered `count` images with finite logits (N, classes), and no probabilities."""
    logits_shape(scores, count)
    if not torch.isfinite(scores).all():
        raise ValueError("model: expected finite logits, got NaN or infinity")
    if len(scores) == 0 or scores.shape[1] == 1 or scores.numel() < 4:  # a score; or too few to tell from accident
        return scores
    one = torch.ones(count, dtype=scores.dtype, device=scores.device)
    if ((scores >= 0) & (scores <= 1)).all() and torch.allclose(scores.sum(1), one, atol=1e-3):
        raise ValueError("model: expected logits, got probabilities; leave out the softmax at the end")
    largest = scores.amax(1)  # 0 in each row: scores less their largest, or of two classes one that is 0 by definition
    if (scores <= 0).all() and (largest < 0).any() and torch.allclose(scores.exp().sum(1), one, atol=1e-3):
        raise ValueError("model: expected logits, got log-probabilities; leave out the log-softmax at the end")
    return scores
