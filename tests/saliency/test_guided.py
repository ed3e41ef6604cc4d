"""Methods that mislead their attacks, against autograd on the network with softmax written out."""

import pytest
import torch
from references import batch, cifar

from fragile_utils import attacks, saliency
from fragile_utils.models.surrogate import softplus_surrogate
from fragile_utils.saliency import Gradient, Guided, IntegratedGradients, OfProbability, guided_by_probability


def probability_gradient(model, images, targets):
    probability = model(images).softmax(1).gather(1, targets[:, None])
    return torch.autograd.grad(probability.sum(), images, create_graph=True)[0]


@pytest.mark.parametrize("smooth", [False, True])
def test_the_gradient_of_the_probability_and_its_derivative(smooth):
    model, (images, targets) = cifar(), batch(3)
    if smooth:
        model = softplus_surrogate(model.requires_grad_(False), 8.0)
    images.requires_grad_()
    expected = probability_gradient(model, images, targets)
    got, _ = OfProbability(Gradient()).explain(model, images, targets, create_graph=True)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12)
    v = torch.randn_like(expected)
    products = [torch.autograd.grad((g * v).sum(), images, retain_graph=True)[0] for g in (got, expected)]
    torch.testing.assert_close(*products, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("method", [Gradient(), IntegratedGradients(20)], ids=repr)
def test_an_attack_on_the_map_of_the_probability_measures_the_network(method):
    """Labels and confidence are those of its logits, and its noise finds the network again."""
    model, (images, _) = cifar(), batch(3)
    labels = model(images).argmax(1)
    options = {"eps": 0.05, "steps": 3, "step_size": 0.02, "beta": 8.0}
    result = attacks.run(attacks.TopK(50), model, images, labels, OfProbability(method), **options)
    assert result.success.any()
    noise = attacks.matched_noise(result, model)
    for outcome in (result.before, result.after, noise):
        probabilities = model(outcome.images).softmax(1)
        torch.testing.assert_close(outcome.confidence, probabilities.gather(1, labels[:, None])[:, 0])
        assert torch.equal(outcome.labels, probabilities.argmax(1))


def test_a_probability_of_one_has_finite_logits():
    model, (images, targets) = cifar(), batch(2)
    model.network[-1].weight *= 1e4
    targets = model(images).argmax(1)
    _, logits = OfProbability(Gradient()).explain(model, images, targets)
    assert logits.isfinite().all()
    torch.testing.assert_close(logits.softmax(1), model(images).softmax(1))


def test_integrated_gradients_of_the_probability_sum_to_its_difference():
    model, (images, targets) = cifar(), batch(2)
    method = OfProbability(IntegratedGradients(2000))
    attributions = method.attribute(model, images, targets)
    x0 = method.method.baseline.image(model, images).expand_as(images)
    here, there = (model(x).softmax(1).gather(1, targets[:, None]).squeeze(1) for x in (images, x0))
    torch.testing.assert_close(attributions.sum((1, 2, 3)), here - there, rtol=0.01, atol=1e-4)


def test_maps_are_those_of_the_method_and_directions_those_of_the_guide():
    model, (images, _) = cifar(), batch(2)
    labels = model(images).argmax(1)
    inner = IntegratedGradients(30)
    method = guided_by_probability(inner)
    assert method == Guided(inner, by=OfProbability(inner))
    assert method.guide() == OfProbability(inner.guide())
    torch.testing.assert_close(method(model, images, labels), inner(model, images, labels))
    options = {"eps": 0.05, "steps": 3, "step_size": 0.02, "beta": 8.0}
    got = attacks.run(attacks.TopK(50), model, images, labels, method, **options)
    expected = attacks.run(attacks.TopK(50), model, images, labels, inner, guide=method.guide(), **options)
    assert torch.equal(got.images, expected.images)
    straight = attacks.run(attacks.TopK(50), model, images, labels, inner, **options)
    assert not torch.equal(got.images, straight.images)


def test_what_is_no_method_is_refused():
    for make in (OfProbability, guided_by_probability, lambda method: Guided(Gradient(), by=method)):
        with pytest.raises(ValueError, match=r"expected .*Gradient\(\).*got .*'gradient'"):
            make("gradient")


def test_a_sweep_names_it():
    from fragile_utils.experiments.choice import Choice

    choice = Choice.of({"name": "guided-by-probability", "method": {"name": "integrated-gradients"}}, "methods")
    assert choice.build(saliency.METHODS, "methods") == guided_by_probability(IntegratedGradients())
