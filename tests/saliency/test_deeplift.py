"""DeepLIFT against Captum, and its completeness."""

import captum.attr
import pytest
import torch
import torch.nn.functional as F
from references import SIZE, apart, batch, captum_deep_lift, cifar, relative_error, score_difference

from fragile_utils import models
from fragile_utils.saliency import LRP, Baseline, DeepLift
from fragile_utils.saliency.deeplift import Rescale
from fragile_utils.saliency.propagation.propagate import propagate
from fragile_utils.saliency.propagation.rule import Rule

RANDOM = torch.rand(3, SIZE, SIZE, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
BASELINES = {"mean": Baseline(), "black": Baseline(0), "random": Baseline(RANDOM)}
over_baselines = pytest.mark.parametrize("baseline", BASELINES.values(), ids=BASELINES)


def reference_of(baseline, model, images):
    if isinstance(baseline.value, torch.Tensor):  # drawn for the small network
        baseline = Baseline(F.interpolate(baseline.value[None], images.shape[-2:]))
    return baseline, baseline.image(model, images)


@over_baselines
def test_deep_lift_equals_captums(case, baseline):
    model, images, targets = case
    baseline, reference = reference_of(baseline, model, images)
    expected, off = captum_deep_lift(apart(model), images, reference, targets)
    assert off.abs().max() < 1e-9
    assert relative_error(DeepLift(baseline).attribute(model, images, targets), expected) < 1e-6


def test_without_overlapping_pools_captums_deep_lift_needs_no_correction_but_modules_apart():
    model, (images, targets) = cifar(), batch(3)
    reference = Baseline(RANDOM).image(model, images)
    got = DeepLift(RANDOM).attribute(model, images, targets)
    expected, off = captum_deep_lift(apart(model), images, reference, targets, sum_windows=False)
    assert relative_error(got, expected) < 1e-6
    assert off.abs().max() < 1e-9
    _, off = captum_deep_lift(model, images, reference, targets, sum_windows=False)
    assert off.abs().max() > 1e-4  # ReLU directly before a max pool: Captum's attributions are not complete


def test_captums_deep_lift_of_squeezenet_is_incomplete_and_ours_is_not(samples):
    model = models.squeezenet().double()
    images = F.interpolate(samples.images[:1].double(), 67)
    targets = model(images).argmax(1)
    reference = Baseline().image(model, images)
    difference = (model(images) - model(reference)).gather(1, targets[:, None]).squeeze()
    _, off = captum_deep_lift(model, images, reference, targets, sum_windows=False)
    assert abs(off) > 0.1 * abs(difference)
    assert abs(DeepLift().attribute(model, images, targets).sum() - difference) < 1e-9 * abs(difference)


@pytest.mark.slow
def test_deep_lift_and_lrp_equal_captums_at_full_size(samples):
    model = models.squeezenet().double()
    images = samples.images[:1].double()
    targets = model(images).argmax(1)
    other = apart(model)
    expected, _ = captum_deep_lift(other, images, Baseline().image(model, images), targets)
    assert relative_error(DeepLift().attribute(model, images, targets), expected) < 1e-6
    expected = captum.attr.LRP(other.network).attribute(other.normalize(images).requires_grad_(), target=targets)
    assert relative_error(LRP(epsilon=1e-9).attribute(model, images, targets), expected.detach().flip(1)) < 1e-6


@over_baselines
def test_deep_lift_is_complete(case, baseline):
    model, images, targets = case
    baseline, reference = reference_of(baseline, model, images)
    total = DeepLift(baseline).attribute(model, images, targets).sum((1, 2, 3))
    torch.testing.assert_close(total, score_difference(model, images, reference, targets), rtol=1e-9, atol=1e-12)


# --- The slope between two points ------------------------------------------------------------------------------------


def test_a_difference_of_zero_takes_the_derivative():
    model, (images, targets) = cifar(), batch()
    multipliers, _ = propagate(model, images, targets, Rescale(), images)
    gradient, _ = propagate(model, images, targets, Rule())
    torch.testing.assert_close(multipliers, gradient)


class Softplus(torch.nn.Module):
    """The sum of the softplus of one channel."""

    def forward(self, images):
        return F.softplus(images[:, 0]).flatten(1).sum(1, keepdim=True)


def test_the_slope_between_close_points_has_an_accurate_derivative_in_float32():
    x0 = torch.full((200,), 0.7)
    x = x0 + torch.logspace(-6, 0, 200)
    derivatives = []
    for dtype in (torch.float32, torch.float64):
        image, reference = (v.to(dtype).view(1, 1, 10, 20).repeat(1, 3, 1, 1) for v in (x, x0))
        z = image.requires_grad_()
        multipliers, _ = propagate(Softplus().eval(), z, torch.tensor([0]), Rescale(), reference, create_graph=True)
        derivatives.append(torch.autograd.grad(multipliers.sum(), z)[0][0, 0].flatten().double())
    assert (derivatives[0] - derivatives[1]).abs().max() < 0.05  # of 0.11; the plain quotient is off by thousands
    exact = torch.sigmoid(x0.double()) * torch.sigmoid(-x0.double()) / 2  # f''/2, the limit
    assert (derivatives[1] - exact)[:100].abs().max() < 1e-3
