"""The rules of propagation, and a way to run one on a small network."""

import pytest
import torch

from fragile_utils.saliency.deeplift import Rescale
from fragile_utils.saliency.lrp import AlphaBetaRule, DeepTaylorRule, EpsilonRule
from fragile_utils.saliency.propagation.propagate import propagate
from fragile_utils.saliency.propagation.rule import Rule

RULES = {
    "gradient": Rule(),
    "deeplift": Rescale(),
    "lrp-epsilon": EpsilonRule(1e-6),
    "lrp-zplus": AlphaBetaRule(1e-6),
    "lrp-alphabeta": AlphaBetaRule(1e-6, alpha=2.0, beta=1.0),
    "deep-taylor": DeepTaylorRule(1e-6),
}
over_rules = pytest.mark.parametrize("rules", RULES.values(), ids=RULES)


def run(model, images, targets, rules, **options):
    reference = torch.full_like(images[:1], 0.4) if isinstance(rules, Rescale) else None
    return propagate(model, images, targets, rules, reference, **options)
