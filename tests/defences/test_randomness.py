"""The same method with other noise."""

import torch

from fragile_utils.defences import Aggregate, SoftplusExplanation, is_random, redraw, sparsified_smoothgrad
from fragile_utils.defences.randomness import is_new_each_time
from fragile_utils.saliency import Captum, DeepLift, Gradient, Guided, Method, SmoothGrad


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


class OfReader(Method):
    """A reader's own, no dataclass."""

    def __init__(self, *methods):
        self.methods = methods


class InSlots(Method):
    __slots__ = ("inner",)

    def __init__(self, inner):
        self.inner = inner


def test_noise_is_found_in_methods_of_ones_own():
    noise = SmoothGrad(samples=3, seed=5)
    own = OfReader(Gradient(), [InSlots(noise)])
    assert is_random(own)
    assert redraw(own, 9, samples=2).methods[1][0].inner == SmoothGrad(samples=2, seed=9)
    assert own.methods[1][0].inner is noise
    assert not is_new_each_time(own)
    assert is_new_each_time(OfReader([InSlots(redraw(noise, torch.Generator()))]))
    still = OfReader(Gradient(), [InSlots(Gradient())])
    assert not is_random(still)
    assert redraw(still, 9) is still


def test_images_with_seeds_of_their_own_keep_them_apart():
    own = SmoothGrad(samples=2, seed=(4, 7), shared=False)
    assert redraw(own, 100) == SmoothGrad(samples=2, seed=(104, 107), shared=False)
