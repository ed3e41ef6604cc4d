"""Statements in the text that are executed: a claim that does not hold stops the build of the book."""

import html
import math
import sys
from typing import Any

import numpy as np
from torch import Tensor


class ClaimError(AssertionError):
    """A statement in the text is not true."""


def check(
    statement: str,
    value: Any,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    equal_to: Any = None,
    within: float = 0.0,
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

    Raises
    ------
    ClaimError
        If the statement does not hold, or the value is NaN or empty.
    """
    values = np.atleast_1d(value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value))
    wanted = []
    holds = values.size > 0 and not np.isnan(values.astype(float)).any()
    if at_least is not None:
        holds, _ = holds and bool((values >= at_least).all()), wanted.append(f"at least {at_least:.4g}")
    if at_most is not None:
        holds, _ = holds and bool((values <= at_most).all()), wanted.append(f"at most {at_most:.4g}")
    if equal_to is not None:
        target = equal_to.detach().cpu().numpy() if isinstance(equal_to, Tensor) else np.asarray(equal_to)
        holds = holds and bool((np.abs(values.astype(float) - target) <= within).all())
        wanted.append(f"equal to {_show(np.atleast_1d(target))}" + (f" within {within:.4g}" if within else ""))
    if not wanted:
        holds, _ = holds and bool(values.astype(bool).all()), wanted.append("true")
    measured = f"{_show(values)}; required: {' and '.join(wanted)}"
    if not holds:
        raise ClaimError(f"{statement}: got {measured}")
    _present(statement, measured)


def _show(values: np.ndarray) -> str:
    if values.dtype == bool:
        return "true" if values.all() else f"true for {values.sum()} of {values.size}"
    low, high = (float(bound) for bound in (values.min(), values.max())) if values.size else (math.nan, math.nan)
    low, high = low + 0.0, high + 0.0  # 0 rather than -0
    return f"{low:.3g}" if values.size == 1 else f"{low:.3g} to {high:.3g}"


def _present(statement: str, measured: str) -> None:
    """Show the claim: as HTML in a notebook, as a line of text elsewhere."""
    line = f"✓ Checked: {statement} ({measured})"
    if "IPython" in sys.modules and (shell := sys.modules["IPython"].get_ipython()) and hasattr(shell, "kernel"):
        from IPython.display import display

        text = f"<strong>✓ Checked:</strong> {html.escape(statement)} <small>({html.escape(measured)})</small>"
        display({"text/html": f'<p class="fragile-check">{text}</p>', "text/plain": line}, raw=True)
        return
    try:
        print(line)
    except UnicodeEncodeError:  # on Windows, where what is not a console may have few characters
        print(line.encode("ascii", "replace").decode())
