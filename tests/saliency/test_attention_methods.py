"""What holds for every explanation by attention: maps, derivatives, batches, attacks."""

import attentive
import pytest
import torch
from attentive import MAKES
from references import functional_of, gradient_of
from torch import nn

from fragile_utils import attacks, metrics
from fragile_utils.models import softplus_surrogate
from fragile_utils.saliency import AttentionGradient, AttentionRelevance, AttnLRP, Rollout, SmoothGrad, TokenGradCAM

METHODS = {
    "rollout": Rollout(),
    "attention-relevance": AttentionRelevance(),
    "attention-gradient": AttentionGradient(),
    "grad-cam-tokens": TokenGradCAM(),
    "AttnLRP": AttnLRP(),
}
over_methods = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
over_makes = pytest.mark.parametrize("make", MAKES.values(), ids=MAKES)


def case(make, method, count=2):
    """A network and images whose maps are not empty."""
    model, (x, targets) = make(), attentive.images(8)
    kept = (method(model, x, targets).sum((1, 2)) > 0).nonzero().flatten()[:count]
    assert len(kept) == count
    return model, x[kept], targets[kept]


@over_methods
@over_makes
def test_maps_are_maps_and_carry_no_graph(make, method):
    model, x, targets = case(make, method)
    x.requires_grad_()
    maps = method(model, x, targets)
    assert maps.shape == (2, 32, 32)
    assert (maps >= 0).all()
    torch.testing.assert_close(maps.sum((1, 2)), torch.ones(2, dtype=torch.float64))
    assert not maps.requires_grad
    attributions, logits = method.explain(model, x, targets)
    torch.testing.assert_close(logits, model(x))
    assert not logits.requires_grad
    torch.testing.assert_close(method.explain(model, x, targets, create_graph=True)[0], attributions)


@over_methods
@over_makes
def test_the_gradient_equals_central_differences(make, method):
    model, x, targets = case(make, method)
    gradient = gradient_of(lambda x: method.explain(model, x, targets, create_graph=True)[0], x)
    generator = torch.Generator().manual_seed(11)
    step = 1e-8 if isinstance(method, AttentionRelevance) else 1e-6  # it is a thousand times as curved
    for _ in range(3):
        direction = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        ahead, behind = (functional_of(method.explain(model, x + s * direction, targets)[0]) for s in (step, -step))
        expected, got = (ahead - behind) / (2 * step), (gradient * direction).sum()
        assert abs(got - expected) <= 1e-5 * max(abs(expected), gradient.norm())
    assert gradient.norm() > 1e-3


@over_methods
@over_makes
def test_logits_have_the_gradient_of_the_model(make, method):
    model, x, targets = case(make, method)
    x.requires_grad_()
    _, logits = method.explain(model, x, targets, create_graph=True)
    (got,) = torch.autograd.grad(logits.square().sum(), x)
    (want,) = torch.autograd.grad(model(x).square().sum(), x)
    torch.testing.assert_close(got, want)


@over_methods
@over_makes
def test_a_batch_equals_its_images_one_by_one(make, method):
    model, x, targets = case(make, method, 3)
    together = method.attribute(model, x, targets)
    alone = [method.attribute(model, x[i : i + 1], targets[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-9, atol=1e-12)


@over_methods
def test_float32_channels_last_and_trainable_parameters_make_no_difference(method):
    model, x, targets = case(attentive.torchvisions, method)
    expected = method(model, x, targets)
    model.requires_grad_(True)
    torch.testing.assert_close(method(model, x.contiguous(memory_format=torch.channels_last), targets), expected)
    got = method(model.float(), x.float(), targets)
    assert (got.double() - expected).abs().sum() < 1e-3 * len(x)


@over_methods
def test_it_can_be_averaged_over_noise(method):
    model, x, targets = case(attentive.ours, method)
    got = SmoothGrad(method, samples=2, sigma=0.05, chunk=1).attribute(model, x, targets)
    noise = torch.randn(2, 1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = sum(method.explain(model, (x + 0.05 * n).double(), targets)[0] for n in noise) / 2
    assert got.abs().sum() > 0
    torch.testing.assert_close(got, expected)


@over_methods
@pytest.mark.parametrize("attack", [attacks.TopK(100), attacks.MassCenter()], ids=["topk", "mass-center"])
@pytest.mark.parametrize("make", [attentive.ours, attentive.torchvisions], ids=["ours", "torchvision"])
def test_an_attack_beats_noise(make, attack, method):
    model, x, _ = case(make, method, 3)
    model, x = model.float(), x.float()
    labels = model(x).argmax(1)
    options = {"eps": 8 / 255, "steps": 16, "step_size": 1 / 255}
    found = attacks.run(attack, model, x, labels, method, **options)
    noise = attacks.run(attacks.RandomSign(), model, x, labels, method, **options)
    assert found.success.sum() >= 2
    kept = found.success & noise.success
    moved = [_moved(attack, result)[kept].mean() for result in (found, noise)]
    assert moved[0] > 1.5 * moved[1]
    assert (found.maps - method(model, found.images, labels)).abs().sum((1, 2)).max() < 0.02  # float32


def _moved(attack, result):
    if isinstance(attack, attacks.TopK):
        return 1 - metrics.topk_intersection(result.maps_before, result.maps, attack.k)
    return metrics.center_shift(result.maps_before, result.maps)


@pytest.mark.parametrize("method", [AttentionRelevance(), AttnLRP()], ids=["attention-relevance", "AttnLRP"])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.LeakyReLU, nn.Hardswish], ids=lambda kind: kind.__name__)
def test_a_transformer_with_kinks_has_a_surrogate(activation, method):
    model, x, targets = case(lambda: attentive.timms(act_layer=activation), method)
    sharp = softplus_surrogate(model, 1e6)
    torch.testing.assert_close(method.attribute(sharp, x, targets), method.attribute(model, x, targets))
    surrogate = softplus_surrogate(model, 3.0)
    gradient = gradient_of(lambda x: method.explain(surrogate, x, targets, create_graph=True)[0], x)
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(11), dtype=torch.float64)
    ahead, behind = (functional_of(method.explain(surrogate, x + s * direction, targets)[0]) for s in (1e-8, -1e-8))
    expected, got = (ahead - behind) / 2e-8, (gradient * direction).sum()
    assert gradient.norm() > 1e-3
    assert abs(got - expected) <= 1e-5 * max(abs(expected), gradient.norm())


def test_attn_lrp_can_be_attacked_on_a_transformer_with_relu():
    model, x, _ = case(lambda: attentive.timms(act_layer=nn.ReLU), AttnLRP())
    labels = model(x).argmax(1)
    found = attacks.run(attacks.TopK(100), model, x, labels, AttnLRP(), eps=8 / 255, steps=2)
    assert found.dissimilarity.shape == (2,)
    assert not any(found.reasons)


def test_a_kink_without_a_rule_is_refused_by_the_name_that_the_network_calls():
    model, x, targets = attentive.timms(act_layer=nn.ReLU6), *attentive.images(1)
    with pytest.raises(ValueError, match=r"a rule for, got torch.nn.functional.(relu6|hardtanh)$"):
        AttnLRP().attribute(softplus_surrogate(model), x, targets)


def test_directions_are_gradients_of_the_dissimilarity_on_the_surrogate():
    """Rollout has no gradient inside; the surrogate of a network without ReLU is the network."""
    model, x, targets = case(attentive.ours, Rollout())
    gradients = [
        gradient_of(lambda x: Rollout().explain(network, x, targets, create_graph=True)[0], x)  # noqa: B023
        for network in (model, softplus_surrogate(model))
    ]
    torch.testing.assert_close(*gradients)
