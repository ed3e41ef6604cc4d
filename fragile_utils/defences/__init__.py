"""Defences of explanations, what can be certified of them, and the attacks that know them.

A defended explanation is a method like any other, a defended network a network: both are attacked by
`attacks.run`. What looks robust against an attack that does not know the defence need not be: the attacks here do.
"""

from collections.abc import Callable

from fragile_utils.defences.adaptive import Adaptive, ExpectationOverTransformation, ThroughMembers, Transfer
from fragile_utils.defences.aggregate import Aggregate
from fragile_utils.defences.certificates import (
    ABSTAINED,
    Votes,
    certified_overlap,
    certify_pixels,
    count_votes,
    largest_radius,
    pixel_radius,
    share_bounds,
)
from fragile_utils.defences.defence import Attacker, Defence
from fragile_utils.defences.judging import held_out, judge
from fragile_utils.defences.losses import (
    AdversarialTraining,
    AlignmentPenalty,
    CurvaturePenalty,
    GradientPenalty,
    IGNorm,
    Penalised,
)
from fragile_utils.defences.randomness import is_random, redraw
from fragile_utils.defences.restarts import BestResult, best_of, run_restarts
from fragile_utils.defences.softplus import SoftplusExplanation
from fragile_utils.defences.sparsified import TopShare, sparsified_smoothgrad
from fragile_utils.defences.thermometers import ThermometerNetwork, ramp, thermometer
from fragile_utils.defences.trainings import TRAININGS, DefendedTraining
from fragile_utils.saliency import Method, SmoothGrad

__all__ = [
    "ABSTAINED",
    "DEFENCES",
    "TRAININGS",
    "Adaptive",
    "AdversarialTraining",
    "Aggregate",
    "AlignmentPenalty",
    "Attacker",
    "BestResult",
    "CurvaturePenalty",
    "Defence",
    "DefendedTraining",
    "ExpectationOverTransformation",
    "GradientPenalty",
    "IGNorm",
    "Penalised",
    "SoftplusExplanation",
    "ThermometerNetwork",
    "ThroughMembers",
    "TopShare",
    "Transfer",
    "Votes",
    "best_of",
    "certified_overlap",
    "certify_pixels",
    "count_votes",
    "held_out",
    "is_random",
    "judge",
    "largest_radius",
    "pixel_radius",
    "ramp",
    "redraw",
    "run_restarts",
    "share_bounds",
    "sparsified_smoothgrad",
    "thermometer",
]

# Defended explanations by name: each takes the `method` that it defends, and options of its own.
DEFENCES: dict[str, Callable[..., Method]] = {
    "softplus": SoftplusExplanation,
    "smoothgrad": SmoothGrad,
    "sparsified-smoothgrad": sparsified_smoothgrad,
}
