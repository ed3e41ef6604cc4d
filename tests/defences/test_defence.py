"""Defences by name."""

import pytest
import sweeps

from fragile_utils.defences import DEFENCES, SoftplusExplanation, TopShare
from fragile_utils.experiments import Choice
from fragile_utils.saliency import DeepLift, Gradient, SmoothGrad


def test_a_defence_is_made_from_its_name_and_options():
    made = DEFENCES["smoothgrad"](method=DeepLift(), samples=32, sigma=0.1)
    assert made == SmoothGrad(DeepLift(), samples=32, sigma=0.1)
    assert DEFENCES["softplus"](beta=2.0) == SoftplusExplanation(2.0, Gradient())
    votes = DEFENCES["sparsified-smoothgrad"](method=Gradient(), share=0.2, samples=16, seed=3)
    assert votes == SmoothGrad(TopShare(Gradient(), 0.2), samples=16, sigma=0.1, seed=3)


def test_a_choice_names_one():
    given = Choice.of({"name": "smoothgrad", "samples": 32, "sigma": 0.1, "shared": False}, "defence")
    assert given.build(DEFENCES, "defence", method=DeepLift()) == SmoothGrad(DeepLift(), 32, 0.1, shared=False)
    with pytest.raises(ValueError, match="samples: expected a whole number"):
        Choice.of({"name": "sparsified-smoothgrad", "samples": 0.5}, "defence").build(DEFENCES, "defence")
    with pytest.raises(ValueError, match="unknown option"):
        Choice.of({"name": "softplus", "sharpness": 3}, "defence").build(DEFENCES, "defence")


def test_a_sweep_names_one_among_its_methods():
    choice = Choice.of({"name": "softplus", "beta": 2, "method": {"name": "deeplift"}}, "methods")
    sweep = sweeps.small(methods=[choice.to_json(), "gradient"])
    made = [sweeps.parts(sweep).method(method) for method in sweep.methods]
    assert made == [SoftplusExplanation(2.0, DeepLift()), Gradient()]
    with pytest.raises(ValueError, match="methods: softplus"):
        sweeps.small(methods=[{"name": "softplus", "beta": -1}])
