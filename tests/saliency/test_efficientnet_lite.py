"""Every method on EfficientNet-Lite0: ReLU6, depthwise convolutions, uneven padding, residual sums, in float64.

Captum is the reference where it can be; its LRP knows neither ReLU6 nor sums and averages that are no modules. There,
and for deep Taylor, the reference is autograd, on a network whose layers are rewritten: the values stay, and the
derivatives become what the rules say, by constants in front of them.
"""

import copy

import captum.attr
import pytest
import torch
import torch.nn.functional as F
from captum.attr._core import deep_lift
from references import captum_deep_lift, functional_of, gradient_and_product, gradient_of, relative_error
from torch import nn

from fragile_utils import data, models, saliency
from fragile_utils.models.efficientnet import SameConv2d
from fragile_utils.saliency import LRP, DeepLift, DeepTaylor, GradCAM, Gradient, InputXGradient, IntegratedGradients
from fragile_utils.saliency.propagation import passes

SIDE = 40  # on which some borders are even and some are not


@pytest.fixture(scope="module")
def case():
    """The network, two images and their classes."""
    model = models.efficientnet_lite0().double()
    # Away from levels of 255: at level 127 a pixel is 0 for the network, where the shares of z-plus have a kink.
    images = data.imagenet_samples(SIDE).images[:2].double() + 1e-3
    return model, images, model(images).argmax(1)


# --- Maps ------------------------------------------------------------------------------------------------------------

BY_CAPTUM = {
    "gradient": (Gradient(), captum.attr.Saliency, {"abs": False}),
    "input-x-gradient": (InputXGradient(), captum.attr.InputXGradient, {}),
    "integrated-gradients": (
        IntegratedGradients(steps=6, baseline=0.5),
        captum.attr.IntegratedGradients,
        {"baselines": 0.5, "n_steps": 6, "method": "riemann_right"},
    ),
}


@pytest.mark.parametrize("name", BY_CAPTUM)
def test_gradients_equal_captums(name, case):
    (model, images, targets), (method, attribution, options) = case, BY_CAPTUM[name]
    expected = attribution(model).attribute(images.clone().requires_grad_(), target=targets, **options)
    assert relative_error(method.attribute(model, images, targets), expected.detach()) < 1e-6


def test_deep_lift_equals_captums_when_that_is_told_of_relu6_and_is_complete(case, monkeypatch):
    model, images, targets = case
    monkeypatch.setitem(deep_lift.SUPPORTED_NON_LINEAR, nn.ReLU6, deep_lift.nonlinear)
    method = DeepLift(0.3)
    reference = method.baseline.image(model, images)
    expected, off = captum_deep_lift(model, images, reference, targets)
    assert off.abs().max() < 1e-9
    assert relative_error(method.attribute(model, images, targets), expected) < 1e-6


def test_grad_cam_equals_captums(case):
    model, images, targets = case
    layer = captum.attr.LayerGradCam(model, model.network.head[0])
    expected = layer.attribute(images, target=targets, relu_attributions=True)
    expected = F.interpolate(expected.detach(), images.shape[-2:], mode="bilinear", align_corners=False).squeeze(1)
    torch.testing.assert_close(GradCAM().attribute(model, images, targets).sum(1), expected)
    assert expected.amax((1, 2)).min() > 0


class Passing(nn.Module):
    """ReLU6, by which relevance passes as it is: multiplied by f(z) / z."""

    def forward(self, z):
        return z * (F.relu6(z) / torch.where(z == 0, 1, z)).detach()


class Sharing(nn.Module):
    """A layer that hands down in proportion to what raises its value, and to what lowers it: alpha, -beta."""

    def __init__(self, layer, alpha, beta):
        super().__init__()
        self.parts, self.layer = ((alpha, 1), (-beta, -1)), layer

    def forward(self, x):
        value = self.layer(x).detach()
        handed = 0
        for factor, sign in self.parts:
            if factor:
                part = self.part(x, sign)
                safe = part + 1e-9 * torch.where(part >= 0, 1, -1)
                handed = handed + factor * (value / safe).detach() * part
        return value + handed - handed.detach()

    def part(self, x, sign):
        """Return the sum of the terms w x, and of the biases, that have this sign."""
        above = copy.deepcopy(self.layer)
        above.weight.data = sign * (sign * self.layer.weight).clamp(min=0)
        below = copy.deepcopy(above)
        below.weight.data = self.layer.weight - above.weight
        if above.bias is not None:
            above.bias.data = sign * (sign * self.layer.bias).clamp(min=0)
            below.bias.data.zero_()
        return above(torch.where(x >= 0, x, 0)) + below(torch.where(x < 0, x, 0))


def rewritten(network, alpha_beta=None):
    """Return a copy of a network whose gradient is the multipliers of LRP; of the epsilon rule, or of alpha-beta."""
    network = copy.deepcopy(network)
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.ReLU6):
                setattr(parent, name, Passing())
            elif alpha_beta and isinstance(child, (nn.Conv2d, nn.Linear)):
                setattr(parent, name, Sharing(child, *alpha_beta))
    return network.eval()


@pytest.mark.parametrize(
    ("method", "alpha_beta"), [(LRP(), None), (LRP("zplus"), (1, 0)), (LRP("alphabeta"), (2, 1))], ids=repr
)
def test_relevances_are_those_of_the_rules_by_autograd(method, alpha_beta, case):
    model, images, targets = case
    x = model.normalize(images).requires_grad_()
    logits = rewritten(model.network, alpha_beta)(x)
    torch.testing.assert_close(logits, model(images))
    (m,) = torch.autograd.grad(logits.gather(1, targets[:, None]).sum(), x)
    assert relative_error(method.attribute(model, images, targets), x.detach() * m) < 1e-5


def test_deep_taylor_shares_the_first_layer_by_the_bounds_of_pixels(case):
    model, images, targets = case
    network = rewritten(model.network, (1, 0))
    convolution = model.network.stem[0]
    stem, first = network.stem[1:], convolution(model.normalize(images)).requires_grad_()
    logits = network.last(network.head(network.blocks(stem(first))).mean((2, 3)))
    (m,) = torch.autograd.grad(logits.gather(1, targets[:, None]).sum(), first)
    # Of three inputs, the image and its two bounds, the gradients are W^T s, W+^T s and W-^T s.
    x, low, high = (model.normalize(v).requires_grad_() for v in (images, images * 0, images * 0 + 1))
    up, down = copy.deepcopy(convolution), copy.deepcopy(convolution)
    up.weight.data.clamp_(min=0)
    down.weight.data.clamp_(max=0)
    z = convolution(x) - up(low) - down(high)
    relevance = first.detach() * m
    shares = torch.autograd.grad(z, (x, low, high), relevance / (z + 1e-9 * torch.where(z >= 0, 1, -1)).detach())
    expected = sum(v * share for v, share in zip((x, low, high), shares, strict=True)).detach()
    assert relative_error(DeepTaylor().attribute(model, images, targets), expected) < 1e-5


# --- Second derivatives ----------------------------------------------------------------------------------------------


def test_gradient_and_products_are_those_of_torch_func_in_any_batch_and_layout(case):
    model, images, targets = case
    surrogate = models.softplus_surrogate(model)
    vectors = torch.randn(images.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    gradient, product = gradient_and_product(surrogate, images, targets, vectors)
    whole = passes.Pass(surrogate, images, targets)
    last = passes.Pass(surrogate, images.contiguous(memory_format=torch.channels_last), targets)
    for made in (whole, last):
        assert relative_error(made.multipliers, gradient) < 1e-9
        assert relative_error(made.product(vectors), product) < 1e-9
    for i in range(2):  # one image, after two
        made = passes.Pass(surrogate, images[i : i + 1], targets[i : i + 1])
        assert relative_error(made.product(vectors[i : i + 1]), product[i : i + 1]) < 1e-9


ATTACKED = {
    "gradient": Gradient(),
    "input-x-gradient": InputXGradient(),
    "integrated-gradients": IntegratedGradients(steps=3),
    "deeplift": DeepLift(),
    "lrp": LRP(epsilon=1e-3),
    "lrp-zplus": LRP("zplus", epsilon=1e-3),
    "lrp-alphabeta": LRP("alphabeta", epsilon=1e-3),
    "deep-taylor": DeepTaylor(epsilon=1e-3),
    "smoothgrad": saliency.SmoothGrad(samples=2),
    "grad-cam": GradCAM("network.blocks.5"),
}


@pytest.mark.parametrize("name", ATTACKED)
def test_directions_equal_central_differences(name, case):
    (model, images, targets), method = case, ATTACKED[name]
    surrogate = models.softplus_surrogate(model)
    gradient = gradient_of(lambda x: method.explain(surrogate, x, targets, create_graph=True)[0], images)
    direction = torch.randn(images.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    size = 1e-8 if isinstance(method, LRP) else 1e-7  # of denominators that are next to zero
    ahead, behind = (
        functional_of(method.explain(surrogate, images + s * direction, targets)[0]) for s in (size, -size)
    )
    expected, got = (ahead - behind) / (2 * size), (gradient * direction).sum()
    assert gradient.norm() > 1e-3
    assert abs(got - expected) <= 1e-4 * max(abs(expected), gradient.norm())


@pytest.mark.parametrize("activation", [nn.ReLU6(), nn.Hardtanh(0, 1)], ids=repr)
def test_the_surrogates_relevance_has_no_pole_where_an_activation_is_relu_near_zero(activation):
    """f(z) / z of the smoothed activation is infinite at 0; of the one that it stands for it is 0 or 1."""
    z = torch.linspace(-0.4, 0.4, 16, dtype=torch.float64)
    images = (z + 0.5).view(1, 1, 4, 4).repeat(1, 3, 1, 1)

    class Elementwise(nn.Module):
        def forward(self, images):
            return activation(images[:, 0] - 0.5).flatten(1)

    surrogate = models.softplus_surrogate(Elementwise().eval(), beta=64.0)
    for target in range(16):
        relevance, _ = LRP().explain(surrogate, images, torch.tensor([target]))
        expected = z[target] * torch.sigmoid(64 * z[target])
        torch.testing.assert_close(relevance[0, 0].flatten()[target], expected, rtol=1e-6, atol=1e-9)


def test_a_border_of_zeros_is_no_pixel(case):
    """The border is a step of its own where it is uneven: it must get no relevance and lose none."""
    _, images, _ = case
    network = nn.Sequential(SameConv2d(3, 2, 3, 2, bias=False), nn.Flatten(), nn.Linear(2 * 20 * 20, 3, bias=False))
    model = models.Classifier(network, (0.5,) * 3, (0.5,) * 3).double().eval()
    relevance, logits = DeepTaylor().explain(model, images, torch.tensor([0, 1]))
    torch.testing.assert_close(relevance.sum((1, 2, 3)), logits.diagonal())
