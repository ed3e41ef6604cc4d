"""Grad-CAM against Captum."""

import contextlib

import captum.attr
import pytest
import torch
import torch.nn.functional as F
from references import SIZE, batch, cifar
from torch import nn

from fragile_utils._base import once
from fragile_utils.models import softplus_surrogate
from fragile_utils.saliency import GradCAM


def test_grad_cam_equals_captums():
    model, (images, targets) = cifar(), batch(3)
    layer = captum.attr.LayerGradCam(model, model.network[5])
    expected = layer.attribute(images, target=targets, relu_attributions=True)
    expected = F.interpolate(expected.detach(), (SIZE, SIZE), mode="bilinear", align_corners=False).squeeze(1)
    got = GradCAM("network.5").attribute(model, images, targets)
    torch.testing.assert_close(got.sum(1), expected)
    assert expected.amax((1, 2)).min() > 0


def test_grad_cam_says_which_layer_it_cannot_use():
    model, (images, targets) = cifar(), batch()
    with pytest.raises(ValueError, match=r"expected the name of a module of the model, got 'network\.99'"):
        GradCAM("network.99")(model, images, targets)
    with pytest.raises(ValueError, match=r"layer 'network.9': expected an output \(N, channels, h, w\)"):
        GradCAM("network.9")(model, images, targets)
    with pytest.raises(ValueError, match="has no convolution"):
        GradCAM()(nn.Sequential(nn.Flatten(), nn.Linear(768, 5)).double().eval(), images, targets)
    model.network[1] = nn.ReLU(inplace=True).eval()  # after the layer: it must not reach what was kept
    expected = GradCAM("network.0")(cifar(), images, targets)
    torch.testing.assert_close(GradCAM("network.0")(model, images, targets), expected)
    assert not any(module._forward_hooks for module in model.modules())


class Ordered(nn.Module):
    """Two convolutions, registered in any order, and others; `way(self, images)` says how they are called."""

    def __init__(self, way, order=("first", "second")):
        super().__init__()
        self.way = way
        with torch.random.fork_rng():
            for name in order:
                torch.manual_seed(len(name))
                self.add_module(name, nn.Conv2d(3, 3, 3, padding=1))
            self.last = nn.Linear(3, 5)

    def forward(self, images):
        return self.last(self.way(self, images).mean((2, 3)))


def test_the_default_is_the_convolution_that_is_called_last():
    def in_turn(net, x):
        return net.second(net.first(x).relu()).relu_()

    (images, targets), order = batch(3), ("second", "first")
    model, turned = (Ordered(in_turn, names).double().eval() for names in (order[::-1], order))
    turned.load_state_dict(model.state_dict())
    torch.testing.assert_close(turned(images), model(images))
    expected = GradCAM("second")(model, images, targets)
    torch.testing.assert_close(GradCAM()(model, images, targets), expected)
    torch.testing.assert_close(GradCAM()(turned, images, targets), expected)
    smooth = softplus_surrogate(turned, 5.0)
    torch.testing.assert_close(GradCAM()(smooth, images, targets), GradCAM("second")(smooth, images, targets))
    assert (GradCAM("first")(model, images, targets) - expected).abs().sum((1, 2)).min() > 0.1
    assert not any(module._forward_hooks for module in turned.modules())


def test_other_convolutions_may_give_what_they_like():
    images, targets = batch(2)

    def one_by_one(net, x):
        return net.second(torch.stack([net.first(image) for image in x]).relu())

    single = Ordered(one_by_one).double().eval()
    torch.testing.assert_close(GradCAM()(single, images, targets), GradCAM("second")(single, images, targets))
    with pytest.raises(ValueError, match="'first': expected an output"):
        GradCAM("first")(single, images[:1], targets[:1])


def test_the_default_asks_for_one_call_of_that_convolution():
    images, targets = batch(2)
    often = Ordered(lambda net, x: net.second(net.first(net.first(x).relu()).relu())).double().eval()
    torch.testing.assert_close(GradCAM()(often, images, targets), GradCAM("second")(often, images, targets))
    shared = Ordered(lambda net, x: net.first(net.second(net.first(x)).relu())).double().eval()
    for layer in (None, "first"):
        with pytest.raises(ValueError, match="layer 'first': expected one call in a forward pass, got 2"):
            GradCAM(layer)(shared, images, targets)
    uncalled = Ordered(lambda net, x: F.conv2d(x, net.first.weight)).double().eval()
    with pytest.raises(ValueError, match="has no convolution"):
        GradCAM()(uncalled, images, targets)
    with pytest.raises(ValueError, match="layer 'second': expected one call in a forward pass, got 0"):
        GradCAM("second")(uncalled, images, targets)
    aside = Ordered(lambda net, x: (net.first(x), net.second(x))[0]).double().eval()
    with pytest.raises(ValueError, match="layer 'second': expected an output that the scores depend on, got another"):
        GradCAM()(aside, images, targets)
    assert not any(module._forward_hooks for model in (often, shared, uncalled, aside) for module in model.modules())


def by_hand(model, layer, images, targets):
    """Grad-CAM of one layer (N, channels, h, w), by a hook and autograd."""
    kept = []
    handle = layer.register_forward_hook(lambda *args: kept.append(args[2]))
    scores = model(images.clone().requires_grad_()).gather(1, targets[:, None]).sum()
    handle.remove()
    (slopes,) = torch.autograd.grad(scores, kept)
    maps = (slopes.mean((2, 3), keepdim=True) * kept[0]).sum(1, keepdim=True).relu().detach()
    return F.interpolate(maps, images.shape[2:], mode="bilinear").squeeze(1)


def gated(net, x):
    """Squeeze and excitation: `second` sees one place, of the mean of what `first` returns."""
    features = net.first(x).relu()
    return features * net.second(features.mean((2, 3), keepdim=True)).sigmoid()


def with_a_head(net, x):
    return net.second(net.first(x).relu().mean((2, 3), keepdim=True)).tanh()


@pytest.mark.parametrize("way", [gated, with_a_head])
def test_a_convolution_of_one_place_is_not_the_default_and_refused_by_name(way):
    model, (images, targets) = Ordered(way).double().eval(), batch(3)
    expected = by_hand(model, model.first, images, targets)
    torch.testing.assert_close(GradCAM().attribute(model, images, targets).sum(1), expected)
    assert (expected.amax((1, 2)) > 2 * expected.mean((1, 2))).all()  # no uniform map, and none of zeros
    message = r"layer 'second': expected an output \(N, channels, h, w\) of more than one place, .* \(3, 3, 1, 1\)"
    with pytest.raises(ValueError, match=message):
        GradCAM("second")(model, images, targets)
    pooled = Ordered(lambda net, x: net.second(x.mean((2, 3), keepdim=True))).double().eval()
    with pytest.raises(ValueError, match=message):
        GradCAM()(pooled, images, targets)


class Permuted(nn.Module):
    """A block whose channels are last, and one that brings them back; after them only images of one size are taken."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.patches = nn.Conv2d(3, 4, 4, stride=4)  # as many channels as rows
            self.norm, self.back = nn.Sequential(nn.LayerNorm(4)), nn.Sequential(nn.Tanh())
            self.last = nn.Linear(64, 5)

    def forward(self, images):
        x = self.norm(self.patches(images).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.last(self.back(x).flatten(1))


def test_channels_that_are_last_are_not_taken_for_rows():
    model, (images, targets) = Permuted().double().eval(), batch(2)
    expected = by_hand(model, model.back, images, targets)
    torch.testing.assert_close(GradCAM("back").attribute(model, images, targets).sum(1), expected)
    for runs in (contextlib.nullcontext(), once.run()):
        with runs, pytest.raises(ValueError, match=r"'norm': .* \(2, 4, 4, 4\), .*channels are not the second axis"):
            GradCAM("norm")(model, images, targets)
    assert not any(module._forward_hooks for module in model.modules())


class Attentive(nn.Module):
    """Patches by a convolution, attention among them, and a score of their mean."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.patches, self.last = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 5)

    def forward(self, images):
        tokens = self.patches(images).flatten(2).transpose(1, 2)[:, None]
        return self.last((tokens + F.scaled_dot_product_attention(tokens, tokens, tokens)).mean((1, 2)))


def test_grad_cam_below_attention_has_a_derivative():
    model, (images, targets) = Attentive().double().eval(), batch(2)
    weights, direction = (
        torch.randn(images.shape, dtype=images.dtype, generator=torch.Generator().manual_seed(s)) for s in (1, 2)
    )

    def value(x):
        return (weights * GradCAM("patches").attributions(model, x, targets, True)).sum()

    x = images.clone().requires_grad_()
    (slope,) = torch.autograd.grad(value(x), x)
    h = 1e-6
    expected = (value(images + h * direction) - value(images - h * direction)) / (2 * h)
    torch.testing.assert_close((slope * direction).sum(), expected.detach(), rtol=1e-5, atol=0)
