"""What an audit has to show, as a line of text: a condition that a repository can be held to.

``topk_intersection=0.3@2`` holds if, for each method and whatever was tried with up to 2 levels, the two attacks and
noise of the same maximum, at least 0.3 of the top pixels are left on average. Other places after the ``@``:

============== =======================================================================================================
``2``          all of `settings.ATTACKS`, at each budget up to 2 levels: who may change more can also change less
``topk:2``     one of them (``noise`` stands for random-sign)
``jpeg``       one of the everyday changes, `attacks.CHANGES`
``everyday``   all of those after which a map ought to be where it was: all but the shift
============== =======================================================================================================
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fragile_utils import attacks
from fragile_utils.experiments import choice
from fragile_utils.experiments.audit.settings import ATTACKS
from fragile_utils.experiments.audit.summary import BOUNDED
from fragile_utils.experiments.audit.words import IN_PLACE

SHORT = choice.SHORT | {"noise": "random-sign"}
FORM = "MEASURE=NUMBER@PLACE"


@dataclass(frozen=True)
class Condition:
    """At least `bound` of a measure has to be left, on average, of each method's maps.

    Attributes
    ----------
    measure : str
        One of `summary.BOUNDED`.
    bound : float
    changes : tuple of str
        Of `settings.ATTACKS`, or of `attacks.CHANGES`.
    eps : float or None
        The largest budget of attacks, in levels of 255; None for everyday changes, which have none.
    """

    measure: str
    bound: float
    changes: tuple[str, ...]
    eps: float | None

    def failures(self, summary: Mapping[str, Any]) -> list[str]:
        """Return a line for each method and change that leaves less: of an attack, for the budget that leaves least.

        Where nothing could be measured, nothing is known to be left.
        """
        lines = []
        for name, method in summary["methods"].items():
            for change in self.changes:
                where, left = min(self._left(method, change), key=lambda found: found[1])
                if left < self.bound:
                    got = f"{left:.3f}" if math.isfinite(left) else "nothing"
                    lines.append(f"{name} under {where}: {self.measure} {got}, below {self.bound:g}")
        return lines

    def _left(self, method: Mapping[str, Any], change: str) -> Iterator[tuple[str, float]]:
        """Yield where a change was measured, in words, and what it left on average."""
        if self.eps is None:
            yield change, _mean(method["natural"][change], self.measure)
            return
        for cell in method["cells"]:
            if cell["attack"] == change and cell["eps"] <= self.eps:
                levels = f"{cell['eps']:g} level{'s' * (cell['eps'] != 1)}"
                yield f"{change} at {levels}", _mean(cell, self.measure)


def parse(text: str, budgets: Sequence[float]) -> Condition:
    """Return the condition that a line of text states of an audit with these budgets.

    Raises
    ------
    ValueError
        If it states none, or the budget is not one of the audit's.
    """
    match = re.fullmatch(r"([a-z_]+)=([0-9]*\.?[0-9]+)@(.+)", text)
    if match is None or match[1] not in BOUNDED:
        raise ValueError(f"expected {FORM}, of {' or '.join(BOUNDED)}, such as topk_intersection=0.3@2; got {text!r}")
    measure, bound, place = match[1], float(match[2]), match[3]
    if bound > 1:
        raise ValueError(f"expected a number from 0 to 1, what is left of {measure}, got {bound:g}")
    if place in attacks.CHANGES or place == "everyday":
        return Condition(measure, bound, IN_PLACE if place == "everyday" else (place,), None)
    attack, _, eps = place.rpartition(":")
    attack = SHORT.get(attack, attack)
    if (attack and attack not in ATTACKS) or not re.fullmatch(r"[0-9]*\.?[0-9]+", eps):
        places = ", ".join(["a budget", *(f"{name}:BUDGET" for name in ATTACKS), *attacks.CHANGES, "everyday"])
        raise ValueError(f"expected one of {places} after the @, got {place!r}")
    if float(eps) not in budgets:
        raise ValueError(f"expected a budget of the audit, {', '.join(f'{b:g}' for b in budgets)}, got {float(eps):g}")
    return Condition(measure, bound, (attack,) if attack else ATTACKS, float(eps))


def _mean(cell: Mapping[str, Any], measure: str) -> float:
    value = cell[measure]["mean"]
    return -math.inf if value is None else value
