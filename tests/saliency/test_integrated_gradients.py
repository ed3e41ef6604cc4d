"""Integrated gradients against Captum, and their completeness."""

import captum.attr
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from references import relative_error, score_difference

from fragile_utils.saliency import IntegratedGradients

RULES = {"riemann_right": 20, "riemann_left": 5, "riemann_middle": 5, "riemann_trapezoid": 5, "gausslegendre": 6}


@pytest.mark.parametrize("rule", RULES)
def test_integrated_gradients_equal_captums(case, rule):
    model, images, targets = case
    steps = RULES[rule]
    method = IntegratedGradients(steps=steps, rule=rule)
    expected = captum.attr.IntegratedGradients(model).attribute(
        images, method.baseline.image(model, images), target=targets, n_steps=steps, method=rule
    )
    if rule == "riemann_trapezoid":  # the sum of Captum's weights
        expected = expected * steps / (steps - 1)
    assert relative_error(method.attribute(model, images, targets), expected) < 1e-7, "Captum's weights are in float32"


PATHS = {
    "riemann_right": [(k / 4, 1 / 4) for k in (1, 2, 3, 4)],
    "riemann_left": [(k / 4, 1 / 4) for k in (0, 1, 2, 3)],
    "riemann_middle": [(k / 8, 1 / 4) for k in (1, 3, 5, 7)],
    "riemann_trapezoid": [(0, 1 / 6), (1 / 3, 1 / 3), (2 / 3, 1 / 3), (1, 1 / 6)],
    "gausslegendre": [((1 + t) / 2, w / 2) for t, w in zip(*np.polynomial.legendre.leggauss(4), strict=True)],
}


@pytest.mark.parametrize("rule", PATHS)
def test_the_sum_over_the_path_is_exact_in_double_precision(case, rule):
    model, images, targets = case
    baseline, expected = IntegratedGradients().baseline.image(model, images), 0
    for place, weight in PATHS[rule]:
        x = (baseline + place * (images - baseline)).requires_grad_()
        (gradient,) = torch.autograd.grad(model(x).gather(1, targets[:, None]).sum(), x)
        expected = expected + weight * (images - baseline) * gradient
    method = IntegratedGradients(steps=4, rule=rule)
    assert relative_error(method.attribute(model, images, targets), expected) < 1e-12


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
