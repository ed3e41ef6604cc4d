"""The features of a frozen network, against hooks, autograd and finite differences."""

import time

import pytest
import torch
from torch import nn

from fragile_utils import influence, models


def test_features_are_the_average_of_the_layers_output(squeezenet, samples):
    features = influence.Features(squeezenet, "network.features")
    images = samples.images[:3]
    seen = {}
    hook = squeezenet.network.features[12].register_forward_hook(lambda _, __, out: seen.update(out=out))
    with torch.no_grad():
        squeezenet(images)
    hook.remove()
    torch.testing.assert_close(features.extract(images, batch_size=2), seen["out"].mean(dim=(2, 3)))
    assert features.extract(images).shape == (3, 512)


def test_features_do_not_compute_what_follows_the_layer(tiny):
    assert not [name for name, _ in influence.Features(tiny, "pool").named_modules() if "last" in name]


def test_features_of_a_flat_layer_are_its_output(tiny, tiny_batch):
    torch.testing.assert_close(influence.Features(tiny, "last").extract(tiny_batch[0]), tiny(tiny_batch[0]))


def test_the_gradient_reaches_the_images(tiny, tiny_batch):
    tiny, images = tiny.double(), tiny_batch[0][:2].double().requires_grad_()
    assert torch.autograd.gradcheck(influence.Features(tiny, "pool"), (images,), fast_mode=True)


def test_features_of_inception_and_their_gradient():
    """Random weights, with batch statistics of random images, so that activations have a sensible size."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = models.inception(None).double()
        images = torch.rand(3, 3, 299, 299).double()
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.train().momentum = 1.0
    model(images)
    features = influence.Features(model.eval(), "network.Mixed_7c")

    x = images[:1].clone().requires_grad_()
    start = time.perf_counter()
    out = features(x)
    (gradient,) = torch.autograd.grad(out.sum(), x)
    assert time.perf_counter() - start < 20
    assert out.shape == (1, 2048)
    assert (out - features(images[1:2])).abs().mean() > 1e-3
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).double()
    step = 1e-12 * direction  # shorter than the way to the next kink: this network has many
    with torch.no_grad():
        change = (features(x + step) - features(x - step)).sum() / 2e-12
    assert (gradient * direction).sum().item() == pytest.approx(change.item(), rel=1e-3)


def test_features_leave_the_network_as_it_was(tiny):
    before = [(name, module.training) for name, module in tiny.named_modules()]
    influence.Features(tiny, "pool")
    assert [(name, module.training) for name, module in tiny.named_modules()] == before
    tiny.requires_grad_(True)
    features = influence.Features(tiny, "pool")
    assert all(parameter.requires_grad for parameter in tiny.parameters())
    assert not any(parameter.requires_grad for parameter in features.parameters())


class Tokens(nn.Module):
    """A patch embedding whose channels are last, on the way to logits."""

    def __init__(self):
        super().__init__()
        self.patches, self.norm = nn.Conv2d(3, 6, 4, stride=4), nn.LayerNorm(6)
        self.back, self.last = Permute(0, 3, 1, 2), nn.Linear(6, 4)

    def forward(self, images):
        x = self.back(self.norm(self.patches(images).permute(0, 2, 3, 1)))
        return self.last(x.mean((2, 3)))


class Permute(nn.Module):
    def __init__(self, *order):
        super().__init__()
        self.order = order

    def forward(self, x):
        return x.permute(self.order)


def test_channels_that_are_last_are_not_averaged_over(tiny_batch):
    """The features are those of the axis that holds the channels, or there are none."""
    network, images = Tokens().eval(), tiny_batch[0]
    with torch.no_grad():
        expected = network.norm(network.patches(images).permute(0, 2, 3, 1)).mean((1, 2))
    torch.testing.assert_close(influence.Features(network, "back").extract(images), expected)
    torch.testing.assert_close(
        influence.Features(network, "patches").extract(images), network.patches(images).mean((2, 3)).detach()
    )
    with pytest.raises(ValueError, match=r"of norm, got \(6, 4, 4, 6\), .*the channels are not the second axis"):
        influence.Features(network, "norm")(images)


class OfOneSize(nn.Module):
    """Its position is added to each place of the map, of which there is one number."""

    def __init__(self):
        super().__init__()
        self.first, self.add = nn.Conv2d(3, 4, 4, stride=4), Added()

    def forward(self, images):
        return self.add(self.first(images))


class Added(nn.Module):
    def __init__(self):
        super().__init__()
        self.places = nn.Parameter(torch.rand(4, 4, 4))

    def forward(self, x):
        return x + self.places


def test_a_plane_that_is_not_known_is_refused_and_that_of_pytorchs_own_layers_is(tiny_batch):
    network, images = OfOneSize().eval(), tiny_batch[0]
    assert influence.Features(network, "first")(images).shape == (6, 4)
    with pytest.raises(ValueError, match=r"add, .* the plane is not known, since larger images are not taken"):
        influence.Features(network, "add")(images)
    pooled = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(3)).eval()  # as large, however large the image
    torch.testing.assert_close(influence.Features(pooled, "1")(images), pooled(images).mean((2, 3)))
    squeezed = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 4, 1), nn.Sigmoid()).eval()
    torch.testing.assert_close(influence.Features(squeezed, "2")(images), squeezed(images).flatten(1))


class Twice(nn.Module):
    """A layer and a block that are called twice, a layer that changes its input, and one that is never called."""

    def __init__(self):
        super().__init__()
        self.conv, self.relu, self.other = nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(inplace=True), nn.ReLU()
        self.block, self.once, self.last = nn.Sequential(nn.Conv2d(3, 3, 3), nn.Tanh()), nn.Sigmoid(), nn.Linear(3, 4)

    def forward(self, images):
        x = self.relu(self.conv(images))
        return self.last(self.once(self.relu(self.block(self.block(x)))).mean((2, 3)))


@pytest.mark.parametrize(("layer", "calls"), [("relu", 2), ("block", 2), ("block.1", 2), ("other", 0)])
def test_a_layer_that_is_not_called_once_is_refused_by_name(layer, calls):
    with pytest.raises(ValueError, match=f"cut at '{layer}': expected a layer that is called once, got {calls} calls"):
        influence.Features(Twice().eval(), layer)


def test_a_layer_between_those_that_are_called_twice_is_itself(tiny_batch):
    network, images = Twice().eval(), tiny_batch[0]
    first = influence.Features(network, "conv")(images)  # which the ReLU after it changes in place
    torch.testing.assert_close(first, network.conv(images).mean((2, 3)))
    seen = {}
    hook = network.once.register_forward_hook(lambda _, __, out: seen.update(out=out))
    network(images)
    hook.remove()
    torch.testing.assert_close(influence.Features(network, "once")(images), seen["out"].mean((2, 3)))


def test_features_that_mix_the_images_of_a_batch_are_refused(tiny_batch):
    class Centred(nn.Module):
        def forward(self, images):
            return images - images.mean(0)

    network = nn.Sequential(nn.Conv2d(3, 4, 3), Centred(), nn.Tanh()).eval()
    with pytest.raises(ValueError, match="it mixes the images"):
        influence.Features(network, "2").extract(tiny_batch[0])


def test_a_network_that_cannot_be_cut_stays_in_evaluation_mode():
    class Branch(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Conv2d(3, 4, 3)

        def forward(self, images):
            seen = self.first(images)
            return seen if seen.sum() > 0 else -seen

    model = Branch().eval()
    with pytest.raises(ValueError, match="the network cannot be cut at 'first'"):
        influence.Features(model, "first")
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize("layer", ["", "fire13"])
def test_an_unknown_layer_is_refused(layer, tiny):
    with pytest.raises(ValueError, match="layer: expected the name of a module"):
        influence.Features(tiny, layer)


def test_a_layer_with_an_output_that_is_no_feature_map_is_refused(tiny_batch):
    network = nn.Sequential(nn.Flatten(2)).eval()
    with pytest.raises(ValueError, match=r"got \(6, 3, 256\)"):
        influence.Features(network, "0")(tiny_batch[0])


def test_features_refuse_training_mode(tiny):
    with pytest.raises(ValueError, match="training mode"):
        influence.Features(tiny.train(), "pool")
