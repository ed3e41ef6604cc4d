"""Attacks on explanations: Algorithm 1 of the paper, and the dissimilarity functions that it climbs.

An attack looks for an image that the eye cannot tell from the original, on which the network predicts the same class,
and whose saliency map I is as different as possible: maximise D(I(x), I(x + d)) subject to |d|_inf <= eps and the same
prediction (Ghorbani, Abid, Zou, *Interpretation of Neural Networks is Fragile*, AAAI 2019, problem 1).
"""

from fragile_utils._base.seeds import random_signs
from fragile_utils.attacks.algorithm import Best, climb
from fragile_utils.attacks.base import Attack, MapProblem, Problem, confidence, project
from fragile_utils.attacks.maps import run, run_budgets, wrong_predictions
from fragile_utils.attacks.natural import CHANGES, Brightness, Jpeg, Natural, Resize, Shift
from fragile_utils.attacks.noise import matched_noise
from fragile_utils.attacks.objectives import ATTACKS, MassCenter, RandomSign, Targeted, TopK
from fragile_utils.attacks.result import MapResult, Outcome, Result
from fragile_utils.attacks.settings import LEVEL, Settings

__all__ = [
    "ATTACKS",
    "CHANGES",
    "LEVEL",
    "Attack",
    "Best",
    "Brightness",
    "Jpeg",
    "MapProblem",
    "MapResult",
    "MassCenter",
    "Natural",
    "Outcome",
    "Problem",
    "RandomSign",
    "Resize",
    "Result",
    "Settings",
    "Shift",
    "Targeted",
    "TopK",
    "climb",
    "confidence",
    "matched_noise",
    "project",
    "random_signs",
    "run",
    "run_budgets",
    "wrong_predictions",
]
