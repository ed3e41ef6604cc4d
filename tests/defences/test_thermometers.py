"""Thermometer codes, and a network behind one, whose backward pass is an approximation."""

import pytest
import torch
from references import batch, cifar
from torch import nn

from fragile_utils import attacks
from fragile_utils.defences import ThermometerNetwork, ramp, thermometer
from fragile_utils.saliency import Gradient

LEVELS = 8


def coded(seed=0):
    """A smooth float64 network that takes codes."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Conv2d(3 * LEVELS, 6, 3, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(6 * 49, 5))
    return network.double().eval().requires_grad_(False)


def test_the_code_bit_by_bit():
    images = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    images[0, 0, 0, :3] = torch.tensor([0.0, 1.0, 0.25])
    code = thermometer(images, 4)
    assert code.shape == (2, 12, 4, 4)
    for n, c, i, j in torch.cartesian_prod(*map(torch.arange, images.shape)).tolist():
        expected = [float(images[n, c, i, j] > bit / 4) for bit in range(4)]
        assert code[n, 4 * c : 4 * c + 4, i, j].tolist() == expected


def test_the_ramp_is_the_code_with_its_last_bit_filled_in_part():
    images = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    hard, soft = thermometer(images, 5), ramp(images, 5)
    assert torch.equal(soft.ceil(), hard)
    torch.testing.assert_close(soft.unflatten(1, (3, 5)).mean(2), images)


def test_the_logits_are_those_of_the_hard_code():
    images, _ = batch()
    network = coded()
    torch.testing.assert_close(ThermometerNetwork(network, LEVELS)(images), network(thermometer(images, LEVELS)))
    model = cifar()
    mean = thermometer(images, LEVELS).unflatten(1, (3, LEVELS)).mean(2)
    torch.testing.assert_close(ThermometerNetwork(model, LEVELS, decode=True)(images), model(mean))


def test_gradient_and_second_gradient_are_those_of_the_ramp_at_the_hard_code():
    """Naively: all derivatives of the network at the hard code, by autograd; the code's, `LEVELS` on one bit."""
    images, targets = batch()
    network, model = coded(), ThermometerNetwork(coded(), LEVELS)
    slope = torch.func.vmap(torch.func.jacrev(lambda value: ramp(value.view(1, 1, 1, 1).expand(1, 3, 1, 1), LEVELS)))
    pixels = images.flatten()
    each = slope(pixels).reshape(len(pixels), 3, LEVELS)[:, 0].view(*images.shape, LEVELS).permute(0, 1, 4, 2, 3)
    code = thermometer(images, LEVELS).requires_grad_()
    scores = network(code).gather(1, targets[:, None]).sum()
    (of_code,) = torch.autograd.grad(scores, code, create_graph=True)
    expected = (of_code.unflatten(1, (3, LEVELS)) * each).sum(2)
    x = images.clone().requires_grad_()
    got, _ = Gradient().explain(model, x, targets, create_graph=True)
    torch.testing.assert_close(got, expected)
    v = torch.randn(images.shape, dtype=images.dtype, generator=torch.Generator().manual_seed(2))
    (second_code,) = torch.autograd.grad((expected * v).sum(), code)
    (second,) = torch.autograd.grad((got * v).sum(), x)
    torch.testing.assert_close(second, (second_code.unflatten(1, (3, LEVELS)) * each).sum(2))
    assert second.abs().max() > 0


def test_in_truth_there_is_no_gradient():
    images, targets = batch()
    model = ThermometerNetwork(coded(), LEVELS, backward="none")
    assert Gradient().attribute(model, images, targets).abs().max() == 0
    targets = model(images).argmax(1)
    result = attacks.run(attacks.TopK(20), model, images, targets, Gradient(), eps=0.1, steps=2)
    assert not result.success.any()
    assert {*result.reasons} == {"its map is zero everywhere"}


@pytest.mark.parametrize("decode", [False, True])
def test_the_approximation_is_an_attack(decode):
    images, _ = batch()
    model = ThermometerNetwork(cifar() if decode else coded(), LEVELS, decode=decode)
    targets = model(images).argmax(1)
    options = {"eps": 0.1, "seed": 1, "beta": 20.0}
    found = attacks.run(attacks.TopK(20), model, images, targets, Gradient(), steps=20, step_size=0.02, **options)
    noise = attacks.run(attacks.RandomSign(), model, images, targets, Gradient(), **options)
    assert found.success.all()
    left = -attacks.TopK(20).dissimilarity(noise.maps, attacks.TopK(20).reference(found.maps_before))
    assert (-found.dissimilarity < left).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ThermometerNetwork(None), "network: expected a value such as"),
        (lambda: ThermometerNetwork(nn.Identity(), 1), "levels: expected a whole number at least 2, got 1"),
        (lambda: ThermometerNetwork(nn.Identity(), 0), "levels: expected a whole number"),
        (lambda: ThermometerNetwork(nn.Identity(), backward="straight"), "backward: expected 'ramp' or 'none'"),
    ],
)
def test_bad_parameters_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
