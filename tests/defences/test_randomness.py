"""The same method with other noise."""

import torch

from fragile_utils.defences import Aggregate, SoftplusExplanation, is_random, redraw, sparsified_smoothgrad
from fragile_utils.saliency import Captum, DeepLift, Gradient, Guided, SmoothGrad


def test_noise_is_redrawn_wherever_it_is():
    method = Aggregate(
        (Gradient(), SoftplusExplanation(2.0, SmoothGrad(DeepLift(), 9, seed=1)), sparsified_smoothgrad())
    )
    drawn = redraw(method, 5, samples=3)
    expected = (
        Gradient(),
        SoftplusExplanation(2.0, SmoothGrad(DeepLift(), 3, seed=5)),
        sparsified_smoothgrad(seed=5, samples=3),
    )
    assert drawn == Aggregate(expected)
    assert redraw(method, 5).members[1].method.samples == 9
    generator = torch.Generator()
    assert redraw(Guided(Gradient(), by=SmoothGrad()), generator).by.seed is generator


def test_what_is_not_random_stays_itself():
    for method in (Gradient(), Aggregate((Gradient(), DeepLift())), Captum(print, target=1)):
        assert redraw(method, 5) == method
        assert not is_random(method)


def test_what_holds_noise_is_random():
    assert is_random(SmoothGrad())
    assert is_random(Aggregate((Gradient(), SoftplusExplanation(1.0, SmoothGrad()))))
    assert is_random(SmoothGrad(Gradient(), seed=torch.Generator()))
