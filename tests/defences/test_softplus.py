"""The softplus explanation: of the smooth network at its own beta, on whatever it is called."""

import pytest
import torch
from references import batch, cifar, functional_of, gradient_of
from torch import nn

from fragile_utils import attacks
from fragile_utils.defences import SoftplusExplanation
from fragile_utils.models import softplus_surrogate
from fragile_utils.saliency import DeepLift, Gradient, IntegratedGradients


def naive(model, beta):
    """The same layers, with softplus modules in place of ReLU."""
    layers = [nn.Softplus(beta, threshold=1e9) if isinstance(layer, nn.ReLU) else layer for layer in model.network]
    return nn.Sequential(model.normalize, *layers).eval()


@pytest.mark.parametrize("beta", [0.7, 5.0])
def test_what_is_displayed_is_the_gradient_of_the_smooth_network(beta):
    model, (images, targets) = cifar(), batch()
    x = images.clone().requires_grad_()
    scores = naive(model, beta)(x).gather(1, targets[:, None]).sum()
    (expected,) = torch.autograd.grad(scores, x)
    attributions, logits = SoftplusExplanation(beta).explain(model, images, targets)
    torch.testing.assert_close(attributions, expected)
    torch.testing.assert_close(logits, model(images))  # the prediction stays the network's
    assert (attributions - Gradient().attribute(model, images, targets)).abs().max() > 1e-3


@pytest.mark.parametrize("on", [lambda model: model, lambda model: softplus_surrogate(model, 100.0)])
def test_an_attack_differentiates_what_is_displayed_whatever_the_beta_of_its_surrogate(on):
    model, (images, targets) = cifar(), batch()
    smooth = naive(model, 2.0)

    def displayed(x):
        (gradient,) = torch.autograd.grad(smooth(x).gather(1, targets[:, None]).sum(), x, create_graph=True)
        return gradient

    expected = gradient_of(displayed, images)
    network = on(model)
    for _ in range(2):  # the second time from what was traced
        got = gradient_of(lambda x: SoftplusExplanation(2.0).explain(network, x, targets, True)[0], images)
        torch.testing.assert_close(got, expected)
    step = 1e-5 * torch.randn(images.shape, dtype=images.dtype, generator=torch.Generator().manual_seed(3))

    def value(x):
        return functional_of(SoftplusExplanation(2.0).explain(network, x, targets)[0])

    slope = (value(images + step) - value(images - step)) / 2
    torch.testing.assert_close(slope, (expected * step).sum(), rtol=1e-5, atol=0)


def test_two_sharpnesses_on_one_surrogate_do_not_mix():
    model, (images, targets) = cifar(), batch()
    surrogate = softplus_surrogate(model, 7.0)
    soft, sharp, again = (SoftplusExplanation(b).explain(surrogate, images, targets)[0] for b in (0.5, 50.0, 0.5))
    torch.testing.assert_close(soft, again)
    assert (soft - sharp).abs().max() > 1e-3


def test_it_carries_other_methods_and_their_guides():
    model, (images, targets) = cifar(), batch()
    got = SoftplusExplanation(2.0, DeepLift("mean")).attribute(model, images, targets)
    torch.testing.assert_close(got, DeepLift("mean").attribute(softplus_surrogate(model, 2.0), images, targets))
    method = SoftplusExplanation(2.0, IntegratedGradients(100))
    assert method.guide() == SoftplusExplanation(2.0, IntegratedGradients(100).guide())


def test_it_is_attacked_like_any_method(tiny, tiny_batch):
    images, labels = tiny_batch
    method = SoftplusExplanation(4.0)
    result = attacks.run(attacks.TopK(20), tiny, images, labels, method, eps=0.05, steps=10, step_size=0.01, beta=50.0)
    assert result.success.sum() >= 5
    assert {*result.reasons} <= {"", "no iterate kept the label"}
    torch.testing.assert_close(result.maps, method(tiny, result.images, labels))
    inner = -(result.maps * attacks.TopK(20).reference(result.maps_before)).sum((1, 2))
    torch.testing.assert_close(result.dissimilarity, inner)
    assert torch.equal(labels, tiny(result.images).argmax(1))


@pytest.mark.parametrize("make", [lambda: SoftplusExplanation(0), lambda: SoftplusExplanation(1.0, Gradient)])
def test_bad_parameters_are_refused(make):
    with pytest.raises(ValueError, match="expected"):
        make()
