"""Explanations by example: which training examples a prediction rests on, and attacks on that.

`Influence` computes influences, `run` attacks them. The tasks of the book, a frozen network with a new last layer for
two classes, are in `influence.tasks`; the same by Captum, to compare with, in `influence.captum`.
"""

from fragile_utils.influence.attack import (
    ATTACKS,
    GradientSign,
    InfluenceAttack,
    InfluenceResult,
    Iterated,
    RandomSign,
    run,
)
from fragile_utils.influence.features import Features
from fragile_utils.influence.functions import Influence, most, rank_correlation, top_overlap
from fragile_utils.influence.head import Head, fit
from fragile_utils.influence.solvers import ConjugateGradients, Exact
from fragile_utils.influence.tasks import BACKBONES, Task, Trained, digits, flowers, flowers_or_digits

__all__ = [
    "ATTACKS",
    "BACKBONES",
    "ConjugateGradients",
    "Exact",
    "Features",
    "GradientSign",
    "Head",
    "Influence",
    "InfluenceAttack",
    "InfluenceResult",
    "Iterated",
    "RandomSign",
    "Task",
    "Trained",
    "digits",
    "fit",
    "flowers",
    "flowers_or_digits",
    "most",
    "rank_correlation",
    "run",
    "top_overlap",
]
