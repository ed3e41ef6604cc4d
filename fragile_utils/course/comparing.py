"""What the tests of exercises are written with: comparisons that say what is wrong, and an independent truth."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

SHOWN = 4  # numbers that a message shows
DIGITS = (4, 7, 10, 17)  # of each number, as many as tell what is expected from what was found
SINGLE = 1e-4  # relative: what single precision leaves of numbers that are right


def same(
    found: Any,
    expected: Any,
    what: str,
    *,
    within: float = 1e-6,
    mistakes: Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None = None,
) -> None:
    """Raise AssertionError, in words that help, unless `found` is what is expected.

    Parameters
    ----------
    found : tensor, array or number
        What the student's function returned.
    expected : tensor, array or number
    what : str
        What it is, as the message begins: "the map of two images".
    within : float
        How far the two may be apart, as a share of the largest absolute value that is expected (absolute if all are 0).
        Where infinity is expected, nothing else is near, and of the other values the largest counts.
    mistakes : mapping of str to tensor, array or number, optional
        What comes out of mistakes that people make, by the words that say so, or a function that returns it, called
        where something is wrong. The message is that of the mistake whose outcome was found.
    """
    if found is None:
        raise AssertionError(f"{what}: got None; is there a return?")
    if found is NotImplemented or found is Ellipsis:
        raise NotImplementedError
    try:
        got = _tensor(found)
    except (TypeError, ValueError, RuntimeError):
        raise AssertionError(f"{what}: expected numbers, got {_kind(found)}") from None
    wanted = _tensor(expected)
    if _near(got, wanted, within):
        return
    for words, value in (mistakes() if callable(mistakes) else mistakes or {}).items():
        if _near(got, _tensor(value), within):
            raise AssertionError(f"{what}: {words}")
    if got.shape != wanted.shape:
        raise AssertionError(f"{what}: {_shapes(got, wanted, within)}")
    if wanted.isfinite().all() and not got.isfinite().all():
        raise AssertionError(f"{what}: expected finite numbers, got {_shown(got)}")
    raise AssertionError(f"{what}: {_apart(got, wanted)}{_factor(got, wanted, within)}")


def true(statement: Any, otherwise: str) -> None:
    """Raise AssertionError with the words `otherwise`, unless a statement holds (for each entry of a tensor)."""
    if not bool(torch.as_tensor(statement).all()):
        raise AssertionError(otherwise)


def finite_differences(
    function: Callable[[Tensor], Tensor], x: Tensor, step: float = 1e-5, *, batched: bool = False
) -> Tensor:
    """Return the derivative of a function at `x`, entry by entry, by central differences: a truth without autograd.

    Parameters
    ----------
    function : callable
        From a tensor of the shape of `x` to a tensor of any shape S.
    x : Tensor
        float64, of any shape X.
    step : float
        How far `x` is moved both ways.
    batched : bool
        Whether the function takes many points at once, and returns its values one after the other, which is faster.

    Returns
    -------
    Tensor
        Of shape S + X.
    """
    x = x.detach()
    moves = (step * torch.eye(x.numel(), dtype=x.dtype)).view(-1, *x.shape)
    if batched:
        changes = (function(x + moves) - function(x - moves)).detach()
    else:
        changes = torch.stack([(function(x + move) - function(x - move)).detach() for move in moves])
    return (changes / (2 * step)).movedim(0, -1).reshape(*changes.shape[1:], *x.shape)


def _tensor(value: Any) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach().cpu().double()
    if isinstance(value, (tuple, list)) and any(isinstance(part, Tensor) for part in value):
        return torch.stack([_tensor(part) for part in value])
    return torch.as_tensor(np.asarray(value, dtype=np.float64))


def _kind(value: Any) -> str:
    return f"a {type(value).__name__}"


def _near(got: Tensor, wanted: Tensor, within: float) -> bool:
    if got.shape != wanted.shape:
        return False
    if not wanted.numel():
        return True
    size = wanted.nan_to_num(0, 0, 0).abs().max().item() or 1.0
    return torch.allclose(got, wanted, rtol=0, atol=within * size, equal_nan=True)


def _shapes(got: Tensor, wanted: Tensor, within: float) -> str:
    """Say that the shapes differ, and how: one number was wanted, or the two axes are exchanged."""
    if not wanted.ndim:
        return f"expected one number, got {got.numel()}, of shape {tuple(got.shape)}"
    said = f"expected the shape {tuple(wanted.shape)}, got {tuple(got.shape)}"
    turned = got.ndim == wanted.ndim == 2 and _near(got.T, wanted, within)
    return f"{said}; the numbers are right, with rows and columns exchanged" if turned else said


def _apart(got: Tensor, wanted: Tensor) -> str:
    """Say what was expected and what was found, with digits enough to see that they differ."""
    for digits in DIGITS:
        expected, found = _shown(wanted, digits), _shown(got, digits)
        if expected != found:
            break
    close = _near(got, wanted, SINGLE)
    return f"expected {expected}, got {found}{'; nearly: is it computed in single precision?' if close else ''}"


def _shown(values: Tensor, digits: int = DIGITS[0]) -> str:
    """Return some of the numbers of a tensor, and how many there are."""
    first = ", ".join(f"{value:.{digits}g}" for value in values.flatten()[:SHOWN].tolist())
    if values.ndim == 0:
        return first
    return f"[{first}{', ...' if values.numel() > SHOWN else ''}]"


def _factor(got: Tensor, wanted: Tensor, within: float) -> str:
    """Say so if one is a multiple of the other: that is what a forgotten sign or factor looks like."""
    square = wanted.square().sum().item()
    if wanted.numel() < 2 or not 0 < square < np.inf:
        return ""
    factor = (got * wanted).sum().item() / square
    if not factor or not _near(got, factor * wanted, max(within, 1e-9)):
        return ""
    if abs(factor + 1) < 1e-6:
        return "; only the sign is wrong"
    return f"; all of them are {factor:.4g} times what is expected"
