"""The mechanism: what each function of a network hands down, and published networks."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
import torchvision
from propagated import over_rules, run
from references import CLASSES, Functional, batch, cifar
from torch import nn

from fragile_utils import models
from fragile_utils.models import pretrained
from fragile_utils.models.surrogate import softplus_surrogate
from fragile_utils.saliency.deeplift import Rescale
from fragile_utils.saliency.lrp import AlphaBetaRule, DeepTaylorRule, EpsilonRule
from fragile_utils.saliency.propagation.propagate import propagate
from fragile_utils.saliency.propagation.rule import Rule


@over_rules
@pytest.mark.parametrize("smooth", [False, True], ids=["relu", "softplus"])
def test_functions_methods_and_reused_modules_are_traced_like_modules(rules, smooth):
    model, (images, targets) = cifar(bgr=True), batch()
    functional = Functional(model).eval()
    if smooth:
        model, functional = softplus_surrogate(model), softplus_surrogate(functional, model.beta)
    for got, want in zip(run(functional, images, targets, rules), run(model, images, targets, rules), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)


@over_rules
def test_memory_layout_and_gradients_of_parameters_change_nothing(rules):
    model, (images, targets) = cifar(), batch()
    want, _ = run(model, images, targets, rules)
    model.requires_grad_(True)
    got, _ = run(model, images.contiguous(memory_format=torch.channels_last), targets, rules)
    torch.testing.assert_close(got, want)
    assert not got.requires_grad


class Blocks(nn.Module):
    """Residual addition, concatenation, batch norm, in-place functions, overlapping pools, as in published networks."""

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.second = nn.Conv2d(6, 6, 3, padding="same", dilation=2)
        self.relu = nn.ReLU(inplace=in_place)
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.last = nn.Linear(12, CLASSES)
        self.in_place = in_place

    def forward(self, images):
        channels = [torch.unsqueeze(images[:, i], 1) * (1.5 + i) + 0.1 * i for i in range(3)]
        x = self.relu(self.norm(self.first(torch.cat(channels, 1))))
        y = self.second(x)
        if self.in_place:
            y += x
            y = F.relu_(y)
        else:
            y = torch.relu(y + x)
        y = self.pool(y)
        y = torch.cat([y, 1 - F.adaptive_max_pool2d(y, y.shape[-2:])], dim=1)
        return self.last(y.mean((2, 3)))


def blocks(in_place=False):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = Blocks(in_place)
        model.norm.running_mean.normal_()
        model.norm.running_var.uniform_(0.5, 2)
        model.norm.weight.data.normal_()
        model.norm.bias.data.normal_()
    return model.double().eval().requires_grad_(False)


@over_rules
def test_in_place_functions_give_what_their_forms_out_of_place_give(rules):
    images, targets = batch()
    for got, want in zip(
        run(blocks(in_place=True), images, targets, rules), run(blocks(), images, targets, rules), strict=True
    ):
        torch.testing.assert_close(got, want)


def test_the_values_are_those_of_the_model():
    model, (images, targets) = blocks(in_place=True), batch()
    original = images.clone()
    multipliers, logits = propagate(model, images, targets, Rule())
    x = images.clone().requires_grad_()
    expected = blocks()(x)
    torch.testing.assert_close(logits, expected.detach())
    (gradient,) = torch.autograd.grad(expected.gather(1, targets[:, None]).sum(), x)
    torch.testing.assert_close(multipliers, gradient)
    assert torch.equal(images, original)


@pytest.mark.parametrize("in_place", [False, True], ids=["out-of-place", "in-place"])
def test_contributions_are_complete_through_blocks(in_place):
    model, (images, targets) = blocks(in_place), batch(4)
    reference = torch.rand(4, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    multipliers, logits = propagate(model, images, targets, Rescale(), reference)
    difference = (logits - blocks()(reference)).gather(1, targets[:, None]).squeeze(1)
    contributions = (multipliers * (images - reference)).sum((1, 2, 3))
    torch.testing.assert_close(contributions, difference, rtol=1e-10, atol=1e-12)


MIXERS = {
    "kept": lambda x: torch.cat([x, x + x], 1),
    "constant beside it": lambda x: torch.cat([x, torch.full(x.shape, -1.0, dtype=x.dtype)], 1),
    "difference": lambda x: torch.cat([x, torch.add(x, x.contiguous(), alpha=-2)], 1),
    "subtraction": lambda x: torch.cat([x, x - x.flip(2)], 1),
    "shift": lambda x: torch.cat([x, x - 0.5], 1),
    "factor": lambda x: torch.cat([x, -x], 1),
}


@pytest.mark.parametrize("rules", [AlphaBetaRule(), AlphaBetaRule(alpha=2.0, beta=1.0)], ids=["zplus", "alphabeta"])
@pytest.mark.parametrize("mix", MIXERS.values(), ids=MIXERS)
def test_the_short_cut_for_positive_inputs_changes_nothing(mix, rules):
    class Mixed(nn.Module):
        def __init__(self, relu):
            super().__init__()
            self.first, self.last, self.relu = nn.Conv2d(3, 4, 3), nn.Linear(8, CLASSES), relu

        def forward(self, images):
            return self.last(F.max_pool2d(mix(self.relu(self.first(images))), 14).flatten(1))

    model = Mixed(nn.ReLU()).double().eval()
    other = Mixed(nn.LeakyReLU(0.0)).double().eval()  # the same function, not known to be positive
    other.load_state_dict(model.state_dict())
    images, targets = batch()
    got, want = (run(m, images, targets, rules)[0] for m in (model, other))
    torch.testing.assert_close(got, want)


@over_rules
@pytest.mark.parametrize("smooth", [True, False], ids=["softplus", "relu"])
def test_the_gradient_through_blocks_equals_central_differences(rules, smooth):
    model, (images, targets) = blocks(), batch()
    model = softplus_surrogate(model, beta=5.0) if smooth else model
    rules = dataclasses.replace(rules, epsilon=1e-2) if isinstance(rules, EpsilonRule) else rules
    generator = torch.Generator().manual_seed(2)
    weights, direction = torch.randn(2, *images.shape, generator=generator, dtype=torch.float64)

    def value(x, create_graph=False):
        return (run(model, x, targets, rules, create_graph=create_graph)[0] * weights).sum()

    x = images.clone().requires_grad_()
    total = value(x, create_graph=True)
    gradient = torch.zeros_like(x)
    if total.requires_grad:
        (gradient,) = torch.autograd.grad(total, x, materialize_grads=True)
    expected = (value(images + 1e-6 * direction) - value(images - 1e-6 * direction)) / 2e-6
    assert abs((gradient * direction).sum() - expected) <= 1e-5 * gradient.norm()
    assert (gradient.norm() > 1e-3) == (smooth or type(rules) is not Rule)


ACTIVATIONS = [
    *(nn.ReLU(), nn.LeakyReLU(0.2), nn.ReLU6(), nn.Hardtanh(), nn.Sigmoid(), nn.Tanh(), nn.GELU(), nn.SiLU()),
    *(nn.Softplus(), nn.ELU(), nn.SELU(), nn.CELU(), nn.Mish(), nn.Hardswish(), nn.Hardsigmoid()),
]


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda module: type(module).__name__)
def test_each_activation_has_the_slope_and_the_ratio_of_the_definition(activation):
    class Elementwise(nn.Module):
        def forward(self, images):
            return activation(4 * images[:, 0] - 2).flatten(1)

    images, _ = batch(1, size=4)
    reference = torch.full_like(images, 0.3)
    model = Elementwise().eval()
    for target in range(16):
        multipliers, logits = propagate(model, images, torch.tensor([target]), Rescale(), reference)
        place = divmod(target, 4)
        x, x0 = images[0, 0][place], reference[0, 0][place]
        slope = (activation(4 * x - 2) - activation(4 * x0 - 2)) / (x - x0)
        expected = torch.zeros_like(images)
        expected[0, 0][place] = slope
        torch.testing.assert_close(multipliers, expected)
        relevance, _ = propagate(model, images, torch.tensor([target]), EpsilonRule())
        expected[0, 0][place] = logits[0, target]
        torch.testing.assert_close(relevance, expected, rtol=1e-7, atol=1e-7)


# --- Published networks ----------------------------------------------------------------------------------------------


PUBLISHED = {
    "vgg11": (torchvision.models.vgg11, {}, 32),
    "alexnet": (torchvision.models.alexnet, {}, 64),
    "resnet18": (torchvision.models.resnet18, {}, 32),
    "inception_v3": (torchvision.models.inception_v3, {"init_weights": False, "transform_input": True}, 75),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks_are_explained_completely(name):
    build, options, size = PUBLISHED[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build(weights=None, num_classes=CLASSES, **options)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):  # as after training: not the identity
                module.running_mean.uniform_(-0.1, 0.1)
                module.running_var.uniform_(0.5, 1.5)
    model = (
        models.Classifier(network, pretrained.IMAGENET_MEAN, pretrained.IMAGENET_STD)
        .double()
        .eval()
        .requires_grad_(False)
    )
    images, targets = batch(1, size=size)
    reference = model.normalize.mean.expand(1, 3, size, size).contiguous()
    multipliers, logits = propagate(model, images, targets, Rescale(), reference)
    torch.testing.assert_close(logits, model(images))
    difference = (logits - model(reference)).gather(1, targets[:, None]).squeeze(1)
    contributions = (multipliers * (images - reference)).sum((1, 2, 3))
    torch.testing.assert_close(contributions, difference, rtol=1e-9, atol=1e-12)
    for rules in (EpsilonRule(), DeepTaylorRule()):
        relevance, _ = propagate(model, images, targets, rules)
        assert relevance.isfinite().all()
        assert (relevance != 0).any()


# --- The reference ---------------------------------------------------------------------------------------------------


def test_a_model_that_takes_other_steps_on_the_reference_is_refused():
    class Fickle(nn.Module):
        calls = 0

        def forward(self, images):
            self.calls += 1
            x = images.mean((2, 3))
            return x.relu() if self.calls % 2 else x.tanh()

    images, targets = batch()
    with pytest.raises(ValueError, match=r"same steps|autograd finds another value"):
        run(Fickle().eval(), images, targets % 3, Rescale())


@pytest.mark.parametrize("shape", [None, (3, 16, 16), (2, 3, 16, 16), (1, 3, 8, 8)], ids=str)
def test_deep_lift_needs_a_reference_that_fits(shape):
    model, (images, targets) = cifar(), batch(3)
    reference = None if shape is None else torch.zeros(shape, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"reference: expected shape \(3, 3, 16, 16\)"):
        propagate(model, images, targets, Rescale(), reference)
