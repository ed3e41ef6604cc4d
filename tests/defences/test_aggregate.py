"""The mean of several maps."""

import pytest
import torch
from references import batch, cifar, functional_of, gradient_of

from fragile_utils.defences import Aggregate
from fragile_utils.models import softplus_surrogate
from fragile_utils.saliency import LRP, DeepLift, Gradient, InputXGradient, IntegratedGradients

MEMBERS = (Gradient(), InputXGradient(), DeepLift("mean"), LRP())


def test_it_is_the_mean_of_the_members_maps():
    model, (images, targets) = cifar(), batch()
    expected = sum(member(model, images, targets) for member in MEMBERS) / 4
    torch.testing.assert_close(Aggregate(MEMBERS)(model, images, targets), expected)
    torch.testing.assert_close(Aggregate(list(MEMBERS)).explain(model, images, targets)[1], model(images))


def test_its_gradient_is_that_of_finite_differences():
    surrogate, (images, targets) = softplus_surrogate(cifar(), 3.0), batch()
    method = Aggregate(MEMBERS[:3])

    def value(x):
        return functional_of(method.explain(surrogate, x, targets)[0])

    gradient = gradient_of(lambda x: method.explain(surrogate, x, targets, True)[0], images)
    step = 1e-5 * torch.randn(images.shape, dtype=images.dtype, generator=torch.Generator().manual_seed(3))
    slope = (value(images + step) - value(images - step)) / 2
    torch.testing.assert_close(slope, (gradient * step).sum(), rtol=1e-4, atol=0)


def test_its_guide_is_that_of_its_members():
    method = Aggregate((Gradient(), IntegratedGradients(100)))
    assert method.guide() == Aggregate((Gradient(), IntegratedGradients(100).guide()))


@pytest.mark.parametrize("members", [(), (Gradient(),), (Gradient(), Gradient), Gradient(), None])
def test_what_is_no_group_of_methods_is_refused(members):
    with pytest.raises(ValueError, match="members: expected at least two saliency methods"):
        Aggregate(members)
