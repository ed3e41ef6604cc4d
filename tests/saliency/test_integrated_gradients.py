"""Integrated gradients against Captum, and their completeness."""

import captum.attr
import pytest
import torch
import torch.nn.functional as F
from references import relative_error, score_difference

from fragile_utils.saliency import IntegratedGradients

RULES = {"riemann_right": 20, "riemann_left": 5, "riemann_middle": 5, "riemann_trapezoid": 5, "gausslegendre": 6}


@pytest.mark.parametrize("rule", RULES)
def test_integrated_gradients_equal_captums(case, rule):
    model, images, targets = case
    method = IntegratedGradients(steps=RULES[rule], rule=rule)
    expected = captum.attr.IntegratedGradients(model).attribute(
        images, method.baseline.image(model, images), target=targets, n_steps=RULES[rule], method=rule
    )
    assert relative_error(method.attribute(model, images, targets), expected) < 1e-10


@pytest.mark.parametrize("baseline", ["mean", 0], ids=["mean", "black"])
@pytest.mark.parametrize("rule", ["riemann_right", "riemann_trapezoid", "gausslegendre"])
def test_integrated_gradients_are_complete_to_one_percent(baseline, rule, squeezenet, samples):
    images = F.interpolate(samples.images[:2], 67)
    targets = squeezenet(images).argmax(1)
    method = IntegratedGradients(steps=300, baseline=baseline, rule=rule)
    total = method.attribute(squeezenet, images, targets).sum((1, 2, 3))
    difference = score_difference(squeezenet, images, method.baseline.image(squeezenet, images), targets)
    torch.testing.assert_close(total, difference, rtol=0.01, atol=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: IntegratedGradients(steps=0), "steps: expected a whole number at least 1, got 0"),
        (lambda: IntegratedGradients(rule="simpson"), "rule: expected one of riemann_right"),
        (lambda: IntegratedGradients(steps=1, rule="riemann_trapezoid"), "steps: expected at least 2"),
        (lambda: IntegratedGradients(chunk=0), "chunk: expected a whole number"),
    ],
)
def test_bad_parameters_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
