"""The walk of the door: what a network must be like before its explanations mean anything, tried once.

A network can answer, and yet not be what everything here takes it for: it returns probabilities, it mixes the images of
a batch, it draws random numbers, it writes into its input. `check_network` looks at a few forward passes, and says so
in words, with the name of the layer where there is one.
"""

import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fragile_utils._base import checks, precision, schema

TOLERANCE = 1e-3  # how far two answers may be apart, as a share of how far the logits of two images are: see `_allowed`
ROUNDING = 64  # and, in rounding errors of the logits, of 16 bits in four: batches change rounding


@dataclass(frozen=True)
class Found:
    """What is known of a network after the walk.

    Attributes
    ----------
    classes : int
        How many logits it returns.
    channels_last : bool
        Whether it takes images in this memory layout, in which convolutions on a CPU are faster.
    """

    classes: int
    channels_last: bool


# The last walk through a network, and of what: of what it was before, nothing is true any more.
_seen: weakref.WeakKeyDictionary[nn.Module, tuple[Any, Found]] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def check_network(model: nn.Module, images: Tensor, classes: int = 2) -> Found:
    """Look at a network once for each kind of images, and return what is known of it.

    Parameters
    ----------
    model : Module
        In evaluation mode: images (N, 3, H, W) in [0, 1] to logits (N, classes).
    images : Tensor (N, 3, H, W)
        Two are shown to it: the first, and the mirror image of the last at half its brightness.
    classes : int
        The fewest logits that make sense: two for a prediction; one for a score that is explained, and decides nothing.

    Raises
    ------
    ValueError
        If it cannot take the images; returns no logits (N, classes), too few of them, or probabilities; writes into
        its input; gives the same image other logits on a second call, or in a batch. The layer is named if possible.
    """
    checks.evaluation_mode(model)
    key = (images.shape[1:], images.dtype, images.device, _state_of(model))
    with _lock:
        last, found = _seen.get(model, (None, None))
    if last != key:
        found = _walk(model, images)
        with _lock:
            _seen[model] = key, found
    if found.classes < classes:
        raise ValueError(
            f"model: expected logits of at least {classes} classes, got {found.classes} column; give two, z and 0"
        )
    return found


def _state_of(model: nn.Module) -> int:
    """Return a number that changes with modules, their places, attributes and hooks, and the identity of parameters."""
    return hash(tuple((id(module), _identity(module.__dict__)) for module in model.modules()))


def _identity(value: Any) -> Any:
    """Return what stands for an attribute: its value if that is plain, else the identity of what it holds."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (tuple, list)):
        return tuple(map(_identity, value))
    if isinstance(value, (set, frozenset)):
        return frozenset(map(_identity, value))
    if isinstance(value, dict):
        return tuple((_identity(key), _identity(item)) for key, item in value.items())
    return id(value)


@torch.no_grad()
def _walk(model: nn.Module, images: Tensor) -> Found:
    if any(isinstance(module, nn.DataParallel) and len(module.device_ids) > 1 for module in model.modules()):
        raise ValueError(
            "model: expected a network on one device, got nn.DataParallel on several: its threads know nothing of what "
            "takes the place of ReLU; give the network in it, its `module`"
        )
    images = images.detach()
    pair = torch.cat([images[:1], images[-1:].flip(3) / 2]).contiguous()  # unlike each other, whatever the images
    shown = pair.clone()
    with precision.float32():
        together = _answer(model, shown)
        if not torch.equal(shown, pair):
            where = _first_module(model, pair, lambda given, got, again: not torch.equal(given, pair))
            raise ValueError(f"model: {where}changes the images that it is given; work on a copy")
        alone = torch.cat([_answer(model, image.clone()) for image in pair.split(1)])
        apart = (alone - together).abs() > _allowed(together)
        if apart.any() and ((_answer(model, pair.clone()) - together).abs() > _allowed(together)).any():
            where = _first_module(model, pair, lambda given, got, again: not _near(got, again))
            raise ValueError(
                f"model: {where}gives the same images other values on a second call: random in evaluation mode"
            )
    if apart.any():
        row = int(apart.any(1).nonzero()[0])
        where = _first_module(model, pair, lambda given, got, again: not _near(got, again, row), row)
        raise ValueError(f"model: {where}gives an image other values alone than in a batch: it mixes the images")
    return Found(together.shape[1], _takes_channels_last(model, pair))


def _answer(model: nn.Module, images: Tensor) -> Tensor:
    """Return the logits, or say in a line why there are none."""
    try:
        logits = model(images)
    except ValueError:
        raise
    except (RuntimeError, TypeError, IndexError, AttributeError) as error:
        shape = f"{tuple(images.shape[1:])} of {images.dtype} on {images.device}"
        raise ValueError(f"model: it cannot take images {shape}: {schema.reason(error)}") from error
    return checks.logits(logits, len(images))


def _allowed(together: Tensor) -> Tensor:
    """Return how far another answer to two images may be from `together` (2, C), for each class.

    What counts is how far a class changes from image to image: the logits of a class that is masked are far from the
    others, and say nothing of these. An error of rounding goes with the size of a logit, or with that of nearly all.
    """
    changes = (together - together.flip(0)).abs().amax()
    sizes = together.abs().amax(0)
    sizes = sizes.clamp(min=sizes.float().quantile(0.1).item())  # most of the classes may be masked
    kind = torch.finfo(together.dtype)
    return TOLERANCE * changes + (ROUNDING if kind.bits > 16 else 4) * kind.eps * sizes


def _takes_channels_last(model: nn.Module, images: Tensor) -> bool:
    try:
        model(images.contiguous(memory_format=torch.channels_last))
    except RuntimeError:  # a view of memory that is laid out otherwise
        return False
    return True


def _near(a: Any, b: Any, row: int | None = None) -> bool:
    """Return whether two outputs are values, and the same up to rounding, or `b` the same as row `row` of `a`."""
    if not (isinstance(a, Tensor) and isinstance(b, Tensor) and a.is_floating_point() and a.ndim):
        return True
    a = a if row is None else a[row : row + 1]
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-3, atol=1e-4 * (a.abs().max().item() + 1e-12))


def _first_module(
    model: nn.Module, images: Tensor, differs: Callable[[Tensor, Any, Any], bool], alone: int | None = None
) -> str:
    """Return the name of the first module of which `differs(images, output, output of another call)`, and a space.

    The other call is shown all images, or that of row `alone`.
    """
    runs = _outputs(model, images), _outputs(model, images if alone is None else images[alone : alone + 1])
    for (name, got, shown), (_, again, _) in zip(*runs, strict=False):
        if differs(shown, got, again):
            return f"{name} "
    return "it "


def _outputs(model: nn.Module, images: Tensor) -> list[tuple[str, Any, Tensor]]:
    """Return names and outputs of the innermost modules, as they are called, and the images as they are then."""
    found: list[tuple[str, Any, Tensor]] = []
    shown = images.clone()

    def keeper(name: str) -> Callable:
        def keep(module: nn.Module, args: Any, got: Any) -> None:
            got = got[0] if isinstance(got, tuple) and got else got  # of a recurrent layer: without its last states
            found.append((name, got.clone() if isinstance(got, Tensor) else got, shown.clone()))

        return keep

    modules = [(name, module) for name, module in model.named_modules() if name and not any(module.children())]
    handles = [module.register_forward_hook(keeper(name)) for name, module in modules]
    try:
        model(shown)
    finally:
        for handle in handles:
            handle.remove()
    return found
