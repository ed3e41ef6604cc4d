"""The trained head, against autograd, torch and a naive optimum."""

import numpy as np
import pytest
import torch
from classified import examples
from scipy import optimize
from torch import nn

from fragile_utils import influence
from fragile_utils.influence import head


def test_the_basis_is_orthonormal_and_sums_to_zero():
    for classes in (2, 3, 7):
        basis = head._sum_to_zero(classes, torch.device("cpu"))
        torch.testing.assert_close(basis.T @ basis, torch.eye(classes - 1).double())
        torch.testing.assert_close(basis.sum(0), torch.zeros(classes - 1).double())


@pytest.mark.parametrize("classes", [2, 3])
def test_fit_finds_the_optimum_of_the_symmetric_parametrisation(classes):
    """The same loss and l2 term in K weight vectors and biases, minimised by SciPy."""
    features, labels = examples(classes=classes)
    head = influence.fit(features, labels, l2=0.03)
    standard = (features - features.mean(0)) / features.std(0, correction=0)
    inputs = torch.cat([standard, torch.ones(len(features), 1)], 1).numpy()
    target = np.eye(classes)[labels.numpy()]

    def objective(flat):
        theta = flat.reshape(classes, -1)
        logits = inputs @ theta.T
        shifted = logits - logits.max(1, keepdims=True)
        log = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
        gradient = (np.exp(log) - target).T @ inputs / len(inputs) + 0.03 * theta
        return -(log * target).sum() / len(inputs) + 0.015 * np.sum(theta**2), gradient.ravel()

    found = optimize.minimize(objective, np.zeros(classes * inputs.shape[1]), jac=True, method="BFGS", tol=1e-9)
    symmetric = (head.basis @ head.theta).numpy()
    np.testing.assert_allclose(symmetric, found.x.reshape(classes, -1), atol=1e-7)
    np.testing.assert_allclose(head(features).numpy(), inputs @ symmetric.T, atol=1e-10)


def test_the_head_as_a_linear_layer_gives_the_same_logits():
    features, labels = examples()
    head = influence.fit(features, labels)
    torch.testing.assert_close(head.linear()(head.inputs(features)[:, :-1]), head(features))


def test_features_of_single_precision_are_computed_in_double():
    features, labels = examples()
    head = influence.fit(features.float(), labels)
    assert head(features.float()).dtype == torch.float64
    assert head.loss(features.float(), labels).shape == (60,)


def test_gradients_are_those_of_autograd():
    features, labels = examples()
    head = influence.fit(features, labels)
    residuals, inputs = head.gradients(features, labels)
    for i in (0, 1, 17):
        theta = head.theta.clone().requires_grad_()
        logits = head.inputs(features[i : i + 1]) @ theta.T @ head.basis.T
        (expected,) = torch.autograd.grad(nn.functional.cross_entropy(logits, labels[i : i + 1]), theta)
        torch.testing.assert_close(residuals[i, :, None] * inputs[i], expected)


def test_the_residual_of_a_very_confident_prediction_is_not_lost_to_rounding():
    features, labels = examples(classes=2)
    head = influence.fit(features, labels, l2=1e-4)
    far = features[:1] + 5 * (features[labels == 0].mean(0) - features[labels == 1].mean(0))
    residuals, _ = head.gradients(far, labels[:1])
    gap = head(far) @ torch.tensor([1.0, -1.0]).double()
    assert 40 < gap < 700  # where one minus the probability is zero in float64
    assert residuals.norm().log().item() == pytest.approx(-gap.item() + np.log(2) / 2, rel=1e-6)


def test_refit_with_weight_zero_is_training_without_the_example():
    features, labels = examples()
    head = influence.fit(features, labels, l2=0.02)
    weights = torch.ones(60)
    weights[7] = 0
    without = head.refit(features, labels, weights)
    rest = torch.arange(60) != 7
    shrunk = influence.Head(head.mean, head.scale, head.theta, 0.02 * 60 / 59)  # the mean is over 60 in one, 59 here
    torch.testing.assert_close(without.theta, shrunk.refit(features[rest], labels[rest]).theta, atol=1e-7, rtol=0)
    assert (without.theta - head.theta).abs().max() > 1e-4


def test_a_constant_feature_does_no_harm():
    features, labels = examples()
    with_constant = torch.cat([features, torch.full((60, 1), 0.1)], 1).float()
    head = influence.fit(with_constant, labels)
    torch.testing.assert_close(head.theta[:, 5], torch.zeros(2).double())
    torch.testing.assert_close(
        head(with_constant), influence.fit(features.float(), labels)(features.float()), atol=1e-6, rtol=0
    )


def test_a_network_and_its_head_are_a_model(tiny, tiny_batch):
    features = influence.Features(tiny, "pool")
    labels = torch.tensor([0, 1, 0, 1, 0, 1])
    model = nn.Sequential(features, influence.fit(features.extract(tiny_batch[0]), labels))
    assert model.eval()(tiny_batch[0]).shape == (6, 2)


GOOD, LABELS = examples()
NAN = GOOD.clone()
NAN[3, 1] = torch.nan
BAD = {
    "NaN": (NAN, LABELS, {}, "not finite"),
    "one class": (GOOD, LABELS * 0, {}, "at least two classes, got only class 0"),
    "a class without examples": (GOOD, LABELS * 2, {}, r"each class from 0 to 4, got those of \[0, 2, 4\]"),
    "one dimension": (GOOD[:, 0], LABELS, {}, r"shape \(60,\)"),
    "whole numbers": (GOOD.long(), LABELS, {}, "torch.int64"),
    "an array": (GOOD.numpy(), LABELS, {}, "got ndarray"),
    "no examples": (GOOD[:0], LABELS[:0], {}, r"shape \(0, 5\)"),
    "too few labels": (GOOD, LABELS[1:], {}, r"labels: expected an integer tensor \(60,\)"),
    "negative l2": (GOOD, LABELS, {"l2": -1}, "l2: expected a number, 0 or above, got -1"),
    "too large": (1e200 * GOOD, LABELS, {}, "features: expected values whose variance float64 holds, got some up to"),
    "too small": (1e-200 * GOOD, LABELS, {}, "features: expected values whose variance float64 holds"),
    "separable without l2": (torch.cat([GOOD, LABELS[:, None].double()], 1), LABELS, {"l2": 0.0}, "separable"),
}


@pytest.mark.parametrize("case", BAD)
def test_fit_refuses_what_it_cannot_train_on(case):
    features, labels, options, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        influence.fit(features, labels, **options)


def test_overlapping_classes_need_no_l2():
    features, labels = examples(n=300, width=3)
    head = influence.fit(features, labels, l2=0)
    weights = head.inputs(features).T @ (head(features).softmax(1) - nn.functional.one_hot(labels))
    assert weights.abs().max() / 300 < 1e-8


def test_many_parameters_are_trained_by_conjugate_gradients():
    features, labels = examples(n=30, width=1600)  # 3,202 parameters
    head = influence.fit(features, labels, l2=0.1)
    inputs, residuals = head.inputs(features), head(features).softmax(1) - nn.functional.one_hot(labels)
    gradient = head.basis.T @ residuals.T @ inputs / 30 + 0.1 * head.theta
    assert gradient.abs().max() < 1e-10


def test_weights_count_as_repetitions():
    features, labels = examples()
    head = influence.fit(features, labels)
    weights = torch.ones(60)
    weights[:20] = 2
    repeated = torch.cat([features, features[:20]]), torch.cat([labels, labels[:20]])
    larger = influence.Head(head.mean, head.scale, head.theta, head.l2 * 60 / 80)
    torch.testing.assert_close(head.refit(features, labels, weights).theta, larger.refit(*repeated).theta)


@pytest.mark.parametrize("weights", [torch.ones(59), -torch.ones(60), torch.full((60,), torch.nan), [1.0] * 60])
def test_bad_weights_are_refused(weights):
    with pytest.raises(ValueError, match="weights: expected 60 finite numbers"):
        influence.fit(GOOD, LABELS).refit(GOOD, LABELS, weights)


def test_another_number_of_features_is_refused():
    with pytest.raises(ValueError, match="expected 5 columns"):
        influence.fit(GOOD, LABELS).loss(GOOD[:, 1:], LABELS)
