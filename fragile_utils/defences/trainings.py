"""How the defended networks of this package are trained: by name, a loss and what it asks of the network."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from fragile_utils.defences.losses import (
    AdversarialTraining,
    AlignmentPenalty,
    CurvaturePenalty,
    GradientPenalty,
    IGNorm,
)
from fragile_utils.models.losses import CrossEntropy, Loss
from fragile_utils.models.training import Training

SMOOTH = MappingProxyType({"activation": "softplus", "beta": 3.0})
EXACT = MappingProxyType(
    {"precision": "float32"}
)  # penalties are derivatives of derivatives, and all are to be compared


@dataclass(frozen=True)
class DefendedTraining:
    """A loss, and the values of a `models.training.Training` that it goes with.

    Attributes
    ----------
    loss : Loss
    changes : mapping
        Of names of values to what they are.
    """

    loss: Loss
    changes: Mapping[str, Any] = field(default_factory=dict)

    def apply(self, settings: Training) -> Training:
        """Return the settings with these changes."""
        return replace(settings, **self.changes)


# The weights make each penalty, on a network trained without it, about as large as the cross-entropy there.
TRAININGS: dict[str, DefendedTraining] = {
    "softplus": DefendedTraining(CrossEntropy(), SMOOTH | EXACT),
    "curvature": DefendedTraining(CurvaturePenalty(weight=3e-6, share=0.25), SMOOTH | EXACT),
    "input-gradient": DefendedTraining(GradientPenalty(weight=0.01, share=0.5), EXACT),
    "alignment": DefendedTraining(AlignmentPenalty(weight=1.0, share=0.25), EXACT),
    "adversarial": DefendedTraining(AdversarialTraining(eps=4 / 255, steps=3), EXACT),
    "ig-norm": DefendedTraining(IGNorm(weight=0.1, share=0.25), EXACT),
}
