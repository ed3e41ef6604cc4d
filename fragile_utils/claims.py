"""Statements in the text that are executed: a claim that does not hold stops the build of the book.

Each claim says how close its bound is to what was measured (`Claim.slack`): a bound that nothing could ever reach
claims nothing. What a process has checked is in `made`.
"""

import dataclasses
import html
import json
import math
import sys
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fragile_utils._base import checks, schema

ROUNDING = 1e-5  # a tolerance up to here allows for rounding, and is no bound on what was measured
FEW = 4  # values are shown themselves; of more, their range


@dataclass(frozen=True)
class Claim:
    """A statement that was checked.

    Attributes
    ----------
    statement : str
    measured, required : str
        The value, or a few, or the range of many, and its bounds, in words. Where many have to equal as many, with the
        largest difference.
    slack : float or None
        How many times what was measured the bound is, or the bound what was measured, whichever is above 1: at 1 the
        claim holds only just, at 2 the bound is twice as far from zero, or the tolerance twice the difference. Infinite
        if zero is between them, or if what was measured is what was expected, beside a tolerance. None where there is
        nothing to compare: a statement without a number, equal numbers, or numbers that are equal up to rounding. Of a
        claim that does not hold it says nothing.
    because : str
        Why the bound is not closer, where it is not.
    """

    statement: str
    measured: str
    required: str
    slack: float | None
    because: str = ""

    def to_json(self) -> str:
        """Return the claim as JSON; an infinite slack as text."""
        fields = dataclasses.asdict(self)
        return json.dumps(fields | {"slack": "inf" if self.slack == math.inf else self.slack})


class ClaimError(AssertionError):
    """A statement in the text is not true.

    Attributes
    ----------
    claim : Claim
        What was stated, measured and required.
    """

    def __init__(self, claim: Claim) -> None:
        super().__init__(claim)
        self.claim = claim

    def __str__(self) -> str:
        return f"{self.claim.statement}: got {self.claim.measured}; required: {self.claim.required}"


made: list[Claim] = []  # those that hold


def check(
    statement: str,
    value: Any,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    equal_to: Any = None,
    within: float = 0.0,
    because: str = "",
) -> None:
    """Check a statement of the text, and show that it was checked.

    Parameters
    ----------
    statement : str
        The claim, as a sentence without a full stop.
    value : bool, number, tensor or array
        What was computed. Of several values, each has to satisfy the bounds. Without bounds, each has to be true.
    at_least, at_most : float, optional
        Bounds, included.
    equal_to : number, tensor or array, optional
        What the value has to equal, up to `within` (absolute).
    within : float
        Tolerance of `equal_to`.
    because : str
        Why the bound is further than twice from what was measured, if it is.

    Raises
    ------
    ClaimError
        If the statement does not hold, or the value is NaN or empty.
    ValueError
        If the value or its target are no numbers, the target is not of the value's shape, or there is a tolerance of
        nothing.
    """
    if checks.non_negative(within, "within") and equal_to is None:
        raise ValueError(f"within: expected together with equal_to, got {within!r} alone")
    values = np.atleast_1d(_array(value, "value"))
    wanted, slacks, measured = [], [], _show(values)
    holds = values.size > 0 and not np.isnan(values.astype(float)).any()
    low, high = _range(values)
    if at_least is not None:
        holds, _ = holds and bool((values >= at_least).all()), wanted.append(f"at least {at_least:.4g}")
        slacks.append(_slack(low, at_least) if low > 0 else _slack(at_least, low))
    if at_most is not None:
        holds, _ = holds and bool((values <= at_most).all()), wanted.append(f"at most {at_most:.4g}")
        slacks.append(_slack(at_most, high) if high > 0 else _slack(high, at_most))
    if equal_to is not None:
        target = _array(equal_to, "equal_to")
        try:
            together = np.broadcast_shapes(values.shape, target.shape)
        except ValueError:
            together = ()
        if math.prod(together) != values.size:
            expected = f"expected one number, or one for each of shape {values.shape}"
            raise ValueError(f"equal_to: {expected}, got shape {target.shape}")
        exact = float if "f" in values.dtype.kind + target.dtype.kind else object  # whole numbers of any size
        apart = np.abs(values.astype(exact) - target.astype(exact))
        holds = holds and bool((apart <= within).all())
        if many := target.size > FEW:
            measured += f", largest difference {float(apart.max()):.2g}"
        other = "the other" if many else _show(np.atleast_1d(target))
        wanted.append(f"equal to {other}" + (f" within {within:.4g}" if within else ""))
        if within > ROUNDING:
            slacks.append(_slack(within, apart.max(initial=0)))
    if not wanted:
        holds, _ = holds and bool(values.astype(bool).all()), wanted.append("true")
    claim = Claim(statement, measured, " and ".join(wanted), max(slacks, default=None), because)
    if not holds:
        raise ClaimError(claim)
    made.append(claim)
    _present(claim)


def _array(value: Any, name: str) -> np.ndarray:
    """Return numbers, or truths, as an array; `name` is what an error calls them."""
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        value = value.float() if value.dtype is torch.bfloat16 else value  # which NumPy does not have
    found = np.asarray(value)
    if found.dtype == object and all(isinstance(part, (Real, np.bool_)) for part in found.flat):
        return found  # whole numbers of any size
    if found.dtype.kind not in "biuf":
        got = schema.shown(value) if found.dtype.kind in "OUS" else found.dtype
        raise ValueError(f"{name}: expected numbers, or true or false, got {got}")
    return found


def _slack(farther: float, nearer: float) -> float:
    """Return how many times `nearer` is in `farther`; infinite where zero is between them, or one of them."""
    return float(farther) / float(nearer) if farther * nearer > 0 else 1.0 if farther == nearer else math.inf


def _range(values: np.ndarray) -> tuple[float, float]:
    low, high = (float(bound) for bound in (values.min(), values.max())) if values.size else (math.nan, math.nan)
    return low + 0.0, high + 0.0  # 0 rather than -0


def _show(values: np.ndarray) -> str:
    if values.dtype == bool:
        return "true" if values.all() else f"true for {values.sum()} of {values.size}"
    if 0 < values.size <= FEW:
        return ", ".join(f"{float(value) + 0.0:.3g}" for value in values.flat)
    low, high = _range(values)
    return f"{low:.3g} to {high:.3g}"


def as_html(claim: Claim) -> str:
    """Return a line that opens to show the numbers; the book's page of claims reads it."""
    head = f'<details class="fragile-check" data-claim="{html.escape(claim.to_json())}">'
    return f"{head}<summary>✓ {html.escape(claim.statement)}</summary>{html.escape(_numbers(claim))}</details>"


def _numbers(claim: Claim) -> str:
    because = f"; {claim.because}" if claim.because else ""
    return f"{claim.measured}; required: {claim.required}{because}"


def _present(claim: Claim) -> None:
    """Show the claim: as HTML in a notebook, as a line of text elsewhere."""
    line = f"✓ {claim.statement} ({_numbers(claim)})"
    if "IPython" in sys.modules and (shell := sys.modules["IPython"].get_ipython()) and hasattr(shell, "kernel"):
        from IPython.display import display

        display({"text/html": as_html(claim), "text/plain": line}, raw=True)
        return
    try:
        print(line)
    except UnicodeEncodeError:  # on Windows, where what is not a console may have few characters
        print(line.encode("ascii", "replace").decode())
