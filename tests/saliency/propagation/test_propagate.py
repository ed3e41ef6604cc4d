"""The mechanism: each rule against zennit and against loops over single weights; what is refused and left behind."""

import dataclasses
import warnings

import pytest
import torch
import torch.nn.functional as F
import torchvision
from references import CLASSES, Functional, batch, cifar, relative_error
from torch import nn

from fragile_utils import models
from fragile_utils.models import pretrained
from fragile_utils.models.surrogate import softplus_surrogate
from fragile_utils.saliency import deeplift
from fragile_utils.saliency.deeplift import Rescale
from fragile_utils.saliency.lrp import AlphaBetaRule, DeepTaylorRule, EpsilonRule
from fragile_utils.saliency.propagation import trace as tracing
from fragile_utils.saliency.propagation.propagate import propagate
from fragile_utils.saliency.propagation.rule import LocalDerivatives

RULES = {
    "gradient": LocalDerivatives(),
    "deeplift": Rescale(),
    "lrp-epsilon": EpsilonRule(1e-6),
    "lrp-zplus": AlphaBetaRule(1e-6),
    "lrp-alphabeta": AlphaBetaRule(1e-6, alpha=2.0, beta=1.0),
    "deep-taylor": DeepTaylorRule(1e-6),
}
over_rules = pytest.mark.parametrize("rules", RULES.values(), ids=RULES)


def run(model, images, targets, rules, **options):
    reference = torch.full_like(images[:1], 0.4) if isinstance(rules, Rescale) else None
    return propagate(model, images, targets, rules, reference, **options)


# --- Against others --------------------------------------------------------------------------------------------------


def zennit_maps(model, images, targets, rule, epsilon=1e-6):
    """Return zennit's relevances of the normalised image, channels in the order of the image."""
    pytest.importorskip("zennit")
    from zennit import attribution, composites, rules, types

    inner = {
        "lrp-epsilon": rules.Epsilon(epsilon),
        "lrp-zplus": rules.ZPlus(epsilon),
        "lrp-alphabeta": rules.AlphaBeta(2, 1, epsilon),
        "deep-taylor": rules.ZPlus(epsilon),
    }[rule]
    layers = [(types.Activation, rules.Pass()), (types.AvgPool, rules.Norm(epsilon))]
    layers += [(types.Convolution, inner), (types.Linear, inner)]
    composite = composites.LayerMapComposite(layers)
    if rule == "deep-taylor":
        low, high = (model.normalize(torch.full((1, 3, 1, 1), v, dtype=images.dtype)) for v in (0.0, 1.0))
        first = [(types.Convolution, rules.ZBox(low, high, epsilon))]
        composite = composites.SpecialFirstLayerMapComposite(layers, first)
    normalized = model.normalize(images)
    with attribution.Gradient(
        model.network, composite, attr_output=lambda out: out * F.one_hot(targets, out.shape[1])
    ) as run:
        _, relevance = run(normalized)
    return relevance.flip(1) if model.normalize.bgr else relevance


LRP_RULES = ["lrp-epsilon", "lrp-zplus", "lrp-alphabeta", "deep-taylor"]


@pytest.mark.parametrize("rule", LRP_RULES)
@pytest.mark.parametrize("bgr", [False, True], ids=["rgb", "bgr"])
def test_relevances_equal_zennits_on_a_small_network(rule, bgr):
    model, (images, targets) = cifar(bgr=bgr), batch()
    got, _ = propagate(model, images, targets, RULES[rule])
    assert relative_error(got, zennit_maps(model, images, targets, rule)) < 1e-10


@pytest.mark.parametrize("rule", LRP_RULES)
def test_relevances_equal_zennits_on_squeezenet(rule, squeezenet, samples):
    model = models.squeezenet().double()
    images = F.interpolate(samples.images[:2].double(), 67)
    targets = model(images).argmax(1)
    got, _ = propagate(model, images, targets, RULES[rule])
    assert relative_error(got, zennit_maps(model, images, targets, rule)) < 1e-6


def dense(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 3))
    return models.Classifier(network, (0.5,) * 3, (0.5,) * 3).double().eval()


def naive_layer(x, weight, bias, relevance, rule, epsilon, box):
    """Hand the relevance of one image's outputs to its inputs, weight by weight, as the rules are written."""
    result = torch.zeros_like(x)
    for j, (row, b) in enumerate(zip(weight, bias, strict=True)):
        z = row * x
        up, down = z.clamp(min=0), z.clamp(max=0)
        if rule == "deep-taylor" and box:
            low, high = -torch.ones_like(x), torch.ones_like(x)
            terms = [(1, z - row.clamp(min=0) * low - row.clamp(max=0) * high, 0.0)]
        elif rule in ("deep-taylor", "lrp-zplus"):
            terms = [(1, up, b.clamp(min=0))]
        elif rule == "lrp-alphabeta":
            terms = [(2, up, b.clamp(min=0)), (-1, down, b.clamp(max=0))]
        else:
            terms = [(1, z, b)]
        for factor, term, constant in terms:
            total = term.sum() + constant
            total = total + (epsilon if total >= 0 else -epsilon)
            result += factor * term / total * relevance[j]
    return result


@pytest.mark.parametrize("rule", LRP_RULES)
def test_relevances_equal_the_rules_written_weight_by_weight(rule):
    model, (images, targets) = dense(), batch(3, size=2)
    targets = targets % 3
    got, logits = propagate(model, images, targets, RULES[rule])
    first, last = model.network[1], model.network[3]
    for image, target, of_image, scores in zip(images, targets, got, logits, strict=True):
        x = (image.flatten() - 0.5) / 0.5
        hidden = first(x).relu()
        relevance = scores * F.one_hot(target, 3)
        relevance = naive_layer(hidden, last.weight, last.bias, relevance, rule, 1e-6, box=False)
        relevance = naive_layer(x, first.weight, first.bias, relevance, rule, 1e-6, box=True)
        torch.testing.assert_close(of_image.flatten(), relevance, rtol=1e-9, atol=1e-12)


def test_local_derivatives_give_the_gradient():
    model, (images, targets) = cifar(), batch()
    got, logits = propagate(model, images, targets, LocalDerivatives())
    x = images.clone().requires_grad_()
    expected = model(x)
    (gradient,) = torch.autograd.grad(expected.gather(1, targets[:, None]).sum(), x)
    torch.testing.assert_close(got, gradient)
    torch.testing.assert_close(logits, expected.detach())


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


# --- What each function does -----------------------------------------------------------------------------------------


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
    multipliers, logits = propagate(model, images, targets, LocalDerivatives())
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
    "constant beside it": lambda x: torch.cat([x, torch.full_like(x.node.value, -1.0)], 1),
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
    assert (gradient.norm() > 1e-3) == (smooth or type(rules) is not LocalDerivatives)


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


def test_on_the_surrogate_relevance_takes_the_derivative_of_softplus():
    class Elementwise(nn.Module):
        def forward(self, images):
            return torch.relu(4 * images[:, 0] - 2).flatten(1)

    images = torch.linspace(0.3, 0.7, 16, dtype=torch.float64).view(1, 1, 4, 4).repeat(1, 3, 1, 1)
    z = 4 * images[0, 0].flatten() - 2
    surrogate = softplus_surrogate(Elementwise().eval(), beta=3.0)
    for target in range(16):
        relevance, _ = propagate(surrogate, images, torch.tensor([target]), EpsilonRule())
        expected = torch.zeros(16, dtype=torch.float64)
        expected[target] = z[target] * torch.sigmoid(3 * z[target])  # not softplus(z): that has a pole in z
        torch.testing.assert_close(relevance[0, 0].flatten(), expected)


def test_a_difference_of_zero_takes_the_derivative():
    model, (images, targets) = cifar(), batch()
    multipliers, _ = propagate(model, images, targets, Rescale(), images)
    gradient, _ = propagate(model, images, targets, LocalDerivatives())
    torch.testing.assert_close(multipliers, gradient)


def test_the_slope_between_close_points_has_an_accurate_derivative_in_float32():
    x0 = torch.full((200,), 0.7)
    x = x0 + torch.logspace(-6, 0, 200)
    derivatives = []
    for dtype in (torch.float32, torch.float64):
        a, b = x.to(dtype).requires_grad_(), x0.to(dtype).requires_grad_()
        y, y0 = F.softplus(a), F.softplus(b)
        slopes = [torch.autograd.grad(v.sum(), u, retain_graph=True)[0] for u, v in ((a, y), (b, y0))]
        secant = deeplift._Secant.apply(a, y, b, y0, *slopes)
        derivatives.append(torch.autograd.grad(secant.sum(), a)[0].double())
    assert (derivatives[0] - derivatives[1]).abs().max() < 0.05  # of 0.11; the plain quotient is off by thousands
    exact = torch.sigmoid(x0.double()) * torch.sigmoid(-x0.double()) / 2  # f''/2, the limit
    assert (derivatives[1] - exact)[:100].abs().max() < 1e-3


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


# --- What is refused, by name ----------------------------------------------------------------------------------------


class Forward(nn.Module):
    """A convolution called `layer`, then any function."""

    def __init__(self, function, module=None) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, CLASSES, 3)
        self.inner = module or nn.Identity()
        self.function = function

    def forward(self, images):
        return self.function(self, self.layer(images)).mean((2, 3))


def on(function, module=None):
    return lambda: Forward(function, module).eval()


class CustomSquare(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.exp()

    @staticmethod
    def backward(ctx, grad):
        return grad


def _batch_statistics():
    return nn.BatchNorm2d(CLASSES, track_running_stats=False)


REFUSED = {
    "unknown layer": (on(lambda self, x: self.inner(x), nn.Upsample(scale_factor=2)), r"^inner: .*interpolate"),
    "unknown function": (on(lambda self, x: x.cumsum(1)), r"^Forward: .*cumsum has no propagation rule"),
    "softmax layer": (on(lambda self, x: self.inner(x), nn.Softmax(1)), r"^inner: .*softmax.*logits"),
    "softmax function": (on(lambda self, x: F.log_softmax(x, 1)), r"^Forward: .*log_softmax.*logits"),
    "product of values": (on(lambda self, x: x * x.flip(1)), r"^Forward: .*mul combines values"),
    "quotient": (on(lambda self, x: 1 / (x.relu() + 1)), r"^Forward: "),
    "power": (on(lambda self, x: x**2), r"^Forward: .*pow"),
    "weights made of the image": (on(lambda self, x: F.conv2d(x, x[:1, :, :1, :1])), "combines values"),
    "batch statistics": (on(lambda self, x: self.inner(x), _batch_statistics()), r"^inner: .*statistics of the batch"),
    "functional dropout": (on(lambda self, x: F.dropout(x, 0.5)), r"^Forward: .*dropout"),
    "reflecting pad": (on(lambda self, x: F.pad(x, (1, 1, 1, 1), mode="reflect")), r"^Forward: .*pad.*zeros only"),
    "in place on a view": (on(lambda self, x: F.relu_(x.view(x.shape))), r"^Forward: .*in place"),
    "in place below a view": (on(lambda self, x: (x.flatten(1), x.relu_())[1]), r"^Forward: .*in place"),
    "in place into a constant": (on(lambda self, x: torch.zeros(x.shape).double().add_(x)), r"^Forward: .*in place"),
    "written into": (on(lambda self, x: x.__setitem__(0, 0) or x), r"^Forward: .*__setitem__"),
    "out=": (on(lambda self, x: torch.add(x, 1, out=torch.zeros(x.shape).double())), r"^Forward: .*add"),
    "branch on a value": (on(lambda self, x: x if x.sum() > 0 else -x), r"^Forward: .*gt"),
    "detached": (on(lambda self, x: x + x.detach()), r"^Forward: .*detach"),
    "data": (on(lambda self, x: x + x.data), r"^Forward: .*data"),
    "custom function": (on(lambda self, x: CustomSquare.apply(x)), r"^Forward: .*exp"),
    "no layers": (lambda: nn.Flatten().eval(), "^model: expected layers between"),
    "constant": (lambda: _Constant().eval(), r"^model: expected logits computed from the images"),
    "training mode": (lambda: Forward(lambda self, x: x), "call model.eval()"),
    "part in training mode": (
        lambda: (m := on(lambda self, x: x, nn.Dropout())(), m.inner.train())[0],
        "training mode in inner",
    ),
    "surrogate inside": (
        lambda: nn.Sequential(softplus_surrogate(on(lambda self, x: x)())).eval(),
        "^0: a softplus surrogate inside",
    ),
}


class _Constant(nn.Module):
    def forward(self, images):
        return torch.ones(len(images), CLASSES, dtype=images.dtype)


def hooks(model):
    return [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in model.modules()]


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_explained_is_refused_by_name_and_leaves_nothing_behind(case):
    build, message = REFUSED[case]
    model, (images, targets) = build().double(), batch()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    training = [module.training for module in model.modules()]
    with pytest.raises(ValueError, match=message):
        run(model, images, targets, EpsilonRule())
    assert set(hooks(model)) == {(0, 0, 0)}
    assert [module.training for module in model.modules()] == training
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert torch.overrides._get_current_function_mode() is None
    assert torch.is_grad_enabled()


def test_torchscript_is_refused_as_a_module_and_as_a_function():
    images, targets = batch()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*torch.jit.script", category=FutureWarning)
        scripted = torch.jit.script(nn.Sequential(nn.Conv2d(3, CLASSES, 16), nn.Flatten()).double().eval())
        function = torch.jit.script(_relu)
    outer = nn.Module()
    outer.inner = scripted
    with pytest.raises(ValueError, match="TorchScript"):
        run(scripted, images, targets, EpsilonRule())
    with pytest.raises(ValueError, match=r"^inner: expected a plain module, got TorchScript"):
        run(outer.eval(), images, targets, EpsilonRule())
    with pytest.raises(ValueError, match=r"^Forward: .*cannot be traced"):
        run(on(lambda self, x: function(x))().double(), images, targets, EpsilonRule())


def _relu(x):
    return torch.relu(x)


def test_a_compiled_model_is_refused():
    images, targets = batch()
    compiled = torch.compile(cifar())
    with pytest.raises(ValueError, match=r"torch\.compile"):
        run(compiled, images, targets, EpsilonRule())


def test_deep_taylor_needs_a_weighted_layer_at_the_pixels():
    model = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(3, CLASSES, 8), nn.Flatten()).double().eval()
    images, targets = batch()
    with pytest.raises(ValueError, match=r"^0 \(.*avg_pool2d\): expected a convolution"):
        run(model, images, targets, DeepTaylorRule())
    relevance, _ = run(model, images, targets, EpsilonRule())
    assert relevance.shape == images.shape


def test_a_model_that_takes_other_steps_on_the_reference_is_refused():
    class Fickle(nn.Module):
        calls = 0

        def forward(self, images):
            self.calls += 1
            x = images.mean((2, 3))
            return x.relu() if self.calls % 2 else x.tanh()

    images, targets = batch()
    with pytest.raises(ValueError, match="same steps"):
        run(Fickle().eval(), images, targets % 3, Rescale())


@pytest.mark.parametrize("shape", [None, (3, 16, 16), (2, 3, 16, 16), (1, 3, 8, 8)], ids=str)
def test_deep_lift_needs_a_reference_that_fits(shape):
    model, (images, targets) = cifar(), batch(3)
    reference = None if shape is None else torch.zeros(shape, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"reference: expected shape \(3, 3, 16, 16\)"):
        propagate(model, images, targets, Rescale(), reference)


def test_the_hooks_are_gone_and_the_parameters_untouched_afterwards():
    model, (images, targets) = cifar(), batch()
    model.requires_grad_(True)
    run(model, images, targets, Rescale())
    assert set(hooks(model)) == {(0, 0, 0)}
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_a_trace_names_the_layers_and_knows_their_kinds():
    model, (images, _) = cifar(), batch()
    steps = tracing.trace(model, images).steps
    names = [(step.layer, step.kind) for step in steps]
    assert names[:4] == [
        ("normalize", tracing.CONSTANT),
        ("normalize", tracing.CONSTANT),
        ("network.0", tracing.WEIGHTED),
        ("network.1", tracing.HOMOGENEOUS),
    ]
    assert names[-1] == ("network.12", tracing.WEIGHTED)
    assert [kind for _, kind in names].count(tracing.MAX_POOL) == 1
