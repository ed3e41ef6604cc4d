"""The surrogate against the network written with softplus."""

import functools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from networks import Called, Tiny
from torch import nn
from torch.utils.checkpoint import checkpoint

from fragile_utils import attacks, curvature, data, saliency
from fragile_utils._base import memory
from fragile_utils.models.kinks import kinks_left
from fragile_utils.models.smooth_pooling import smooth_surrogate
from fragile_utils.models.surrogate import beta_of, choose_beta, softplus_surrogate
from fragile_utils.models.wrapping import wrap


class Modules(nn.Module):
    def __init__(self, activation):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), activation, nn.Conv2d(4, 5, 3), activation)

    def forward(self, x):
        return self.layers(x).mean(dim=(2, 3))


class Functions(Modules):
    def __init__(self, activation):
        super().__init__(nn.Identity())
        self.activation = activation

    def forward(self, x):
        return self.activation(self.layers[2](self.activation(self.layers[0](x)))).mean(dim=(2, 3))


def discarded(x):
    F.relu(x, inplace=True)
    return x


KINDS = {
    "nn.ReLU": lambda: Modules(nn.ReLU()),
    "nn.ReLU in place": lambda: Modules(nn.ReLU(inplace=True)),
    "F.relu": lambda: Functions(F.relu),
    "F.relu in place": lambda: Functions(lambda x: F.relu(x, inplace=True)),
    "F.relu in place, by position": lambda: Functions(lambda x: F.relu(x, True)),
    "F.relu in place, result discarded": lambda: Functions(discarded),
    "torch.relu": lambda: Functions(torch.relu),
    "torch.relu_": lambda: Functions(torch.relu_),
    "Tensor.relu": lambda: Functions(lambda x: x.relu()),
    "Tensor.relu_": lambda: Functions(lambda x: x.relu_()),
}


def build(make, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make().eval().double().requires_grad_(False)


@pytest.fixture
def images():
    return torch.rand(3, 3, 12, 13, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("kind", KINDS)
def test_every_form_of_relu_becomes_softplus(kind, images):
    model = build(KINDS[kind])
    expected = build(lambda: Functions(lambda x: F.softplus(x, 3.0, threshold=100)))
    torch.testing.assert_close(softplus_surrogate(model, 3.0)(images), expected(images))


@pytest.mark.parametrize("kind", KINDS)
def test_second_derivatives_of_the_surrogate_are_those_of_the_network_with_softplus(kind, images):
    def second(model):
        x = images.clone().requires_grad_()
        (first,) = torch.autograd.grad(model(x)[:, 1].sum(), x, create_graph=True)
        return torch.autograd.grad(first.pow(3).sum(), x)[0]

    expected = second(build(lambda: Functions(lambda x: F.softplus(x, 3.0, threshold=100))))
    torch.testing.assert_close(second(softplus_surrogate(build(KINDS[kind]), 3.0)), expected)


@pytest.mark.parametrize(
    ("activation", "smooth"),
    [
        (nn.LeakyReLU(0.2), lambda x: 0.2 * x + 0.8 * F.softplus(x, 3.0, threshold=100)),
        (nn.ReLU6(), lambda x: F.softplus(x, 3.0, threshold=100) - F.softplus(x - 6, 3.0, threshold=100)),
        (nn.Hardtanh(-0.3, 0.2), lambda x: -0.3 + F.softplus(x + 0.3, 3.0) - F.softplus(x - 0.2, 3.0)),
        (nn.GELU(), F.gelu),
    ],
    ids=["leaky ReLU", "ReLU6", "hard tanh", "GELU stays"],
)
def test_relatives_of_relu(activation, smooth, images):
    got = softplus_surrogate(build(lambda: Modules(activation)), 3.0)(images)
    torch.testing.assert_close(got, build(lambda: Functions(smooth))(images))


def of_two(name, form):
    """A maxout of two convolutions by this function, in one of the ways in which it can be called."""
    function, method = getattr(torch, name), getattr(torch.Tensor, name)
    ways = {
        "function": function,
        "method": method,
        "by name": lambda a, b: function(a, other=b),
        "all by name": lambda a, b: function(input=a, other=b),
    }
    return build(lambda: Functions(lambda x: ways[form](x, x.flip(1) - 0.1)))


@pytest.mark.parametrize("form", ["function", "method", "by name", "all by name"])
@pytest.mark.parametrize("name", ["maximum", "max", "fmax", "minimum", "min", "fmin"])
def test_every_form_of_the_maximum_of_two_values_is_smoothed(name, form, images):
    model = of_two(name, form)

    def smooth(x):
        other = x.flip(1) - 0.1
        softplus = F.softplus(x - other, 3.0, threshold=100)
        return other + softplus if "max" in name else x - softplus

    surrogate, expected = softplus_surrogate(model, 3.0), build(lambda: Functions(smooth))
    torch.testing.assert_close(surrogate(images), expected(images))
    assert surrogate.replaced
    assert kinks_left(surrogate, images) == []


LARGEST = torch.finfo(torch.float32).max
WIDE = {  # that leave values as they are
    "clamp, almost the largest": lambda x: x.clamp(min=-LARGEST + 1000, max=LARGEST - 1000),
    "clamp, the largest": lambda x: x.clamp(-LARGEST, LARGEST),
    "clamp, of half precision": lambda x: x.clamp(-65504, 65504),
    "clamp, infinite": lambda x: x.clamp(-torch.inf, torch.inf),
    "clamp, between tensors": lambda x: torch.clamp(x, torch.tensor(-LARGEST), torch.tensor(LARGEST)),
    "clamp, at a tensor": lambda x: x.clamp(max=torch.tensor(1e9)),
    "hard tanh": lambda x: F.hardtanh(x, -1e6, 1e6),
    "max": lambda x: torch.max(x, torch.tensor(-LARGEST)),
    "max, by the other": lambda x: torch.max(torch.tensor(-1e9), x),
    "maximum, infinite": lambda x: torch.maximum(x, torch.tensor(-torch.inf)),
    "minimum": lambda x: torch.minimum(x, torch.tensor(1e9)),
}


@pytest.mark.parametrize("name", WIDE)
def test_bounds_far_away_change_nothing(name):
    x = torch.linspace(-3, 3, 41, requires_grad=True)
    y = softplus_surrogate(Called(WIDE[name]), 50.0)(x)
    assert torch.equal(y, x)
    (slope,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    assert (slope == 1).all()
    if slope.requires_grad:
        assert not torch.autograd.grad(slope.sum(), x)[0].any()


def clipped(x, low, high, beta):
    """The closed form in float64."""
    zero = torch.zeros((), dtype=torch.float64)
    above, beyond = (torch.logaddexp(beta * (x.double() - bound), zero) / beta for bound in (low, high))
    return low + above - beyond


BOUNDS = [(0.0, 6.0), (-1.0, 1.0), (0.0, 1.0), (-0.3, 0.2), (-1e4, 1e4), (-50.0, -40.0), (1e3, 2e3)]


@pytest.mark.parametrize("beta", [1.0, 50.0])
@pytest.mark.parametrize("bounds", BOUNDS, ids=repr)
def test_a_clipped_value_is_accurate_wherever_it_is(bounds, beta):
    x = torch.cat([torch.linspace(-9, 9, 200), *(bound + torch.linspace(-9, 9, 200) for bound in bounds)])
    x = torch.cat([x, torch.tensor([-1e6, 1e6])])
    got, want = softplus_surrogate(Called(lambda x: x.clamp(*bounds)), beta)(x), clipped(x, *bounds, beta)
    assert ((got - want).abs() <= 3e-7 * want.abs() + 5e-6 / beta).all()


@pytest.mark.parametrize("beta", [1.0, 50.0])
def test_derivatives_at_a_bound_far_from_0_are_those_of_softplus(beta):
    x = (100 + torch.linspace(-2, 2, 41, dtype=torch.float64)).requires_grad_()
    first, second = [], []
    for y in (
        softplus_surrogate(Called(lambda x: x.clamp(100, 1e9)), beta)(x),
        softplus_surrogate(Called(lambda x: torch.maximum(x, torch.tensor(100.0))), beta)(x),
        F.softplus(x - 100, beta, threshold=1e9),
    ):
        first += torch.autograd.grad(y.sum(), x, create_graph=True)
        second += torch.autograd.grad(first[-1].sum(), x)
    for got in (first, second):
        torch.testing.assert_close(got[0], got[2])
        torch.testing.assert_close(got[1], got[2])


def test_small_values_above_0_keep_their_digits():
    x = torch.linspace(-14, -6, 9)
    for function in (F.relu6, lambda x: x.clamp(min=torch.tensor(0.0)), lambda x: x.clamp(0, 1e9)):
        got = softplus_surrogate(Called(function), 1.0)(x)
        torch.testing.assert_close(got.double(), F.softplus(x.double()), rtol=0.1, atol=1e-6)


AT_A_TENSOR = {
    "number": lambda x: x.clamp(min=torch.zeros((), dtype=x.dtype)),
    "one for each channel": lambda x: x.clamp(min=torch.zeros(x.shape[1], 1, 1, dtype=x.dtype)),
    "clamp_min": lambda x: torch.clamp_min(x, torch.zeros_like(x)),
    "upper": lambda x: -(-x).clamp(max=torch.zeros((), dtype=x.dtype)),
    "in place": lambda x: (x * 1).clamp_(min=torch.zeros((), dtype=x.dtype)),
}


@pytest.mark.parametrize("form", AT_A_TENSOR)
def test_a_clamp_at_a_tensor_is_smoothed(form, images):
    got = softplus_surrogate(build(lambda: Functions(AT_A_TENSOR[form])), 3.0)(images)
    expected = build(lambda: Functions(lambda x: F.softplus(x, 3.0, threshold=100)))(images)
    torch.testing.assert_close(got, expected)


def test_learned_bounds_are_those_of_numbers_and_have_derivatives():
    x = torch.linspace(-9, 9, 50, dtype=torch.float64)
    bounds = torch.tensor([-1.5, 2.0], dtype=torch.float64, requires_grad=True)
    surrogate = softplus_surrogate(Called(lambda bounds: x.clamp(*bounds)), 2.0)
    torch.testing.assert_close(surrogate(bounds), clipped(x, -1.5, 2.0, 2.0))
    assert torch.autograd.gradcheck(surrogate, bounds)
    assert torch.autograd.gradgradcheck(surrogate, bounds)
    crossed = bounds.detach().flip(0)
    torch.testing.assert_close(surrogate(crossed)[[0, -1]], x.clamp(*crossed)[[0, -1]], atol=0.01, rtol=0)


ABSOLUTE = [abs, torch.abs, torch.absolute, torch.Tensor.absolute, torch.Tensor.absolute_]


@pytest.mark.parametrize("form", ABSOLUTE, ids=["abs", "torch.abs", "torch.absolute", "method", "in place"])
def test_every_form_of_the_absolute_value_is_smoothed(form, images):
    got = softplus_surrogate(build(lambda: Functions(form)), 3.0)(images)
    expected = build(lambda: Functions(lambda x: 2 * F.softplus(x, 3.0, threshold=100) - x))(images)
    torch.testing.assert_close(got, expected)


def test_whole_numbers_have_no_derivative_and_stay_as_they_are(images):
    """Places in a table, for instance: their distances, clamped and compared."""
    places = torch.arange(4)
    far = (places[:, None] - places).abs().clamp(0, 2)
    table = torch.rand(4, 4, dtype=torch.float64)

    def function(x):
        distance = torch.minimum((places[:, None] - places).abs(), torch.tensor(9)).clamp(0, 2)
        return x + table[distance.max(torch.zeros_like(distance)), 0].sum()

    surrogate = softplus_surrogate(build(lambda: Functions(function)), 3.0)
    expected = build(lambda: Functions(lambda x: x + table[far, 0].sum()))
    torch.testing.assert_close(surrogate(images), expected(images))
    assert not surrogate.replaced


def test_the_model_is_left_as_it_is(images):
    model = build(KINDS["nn.ReLU"])
    before = model(images)
    softplus_surrogate(model, 1.0)(images)
    assert torch.equal(model(images), before)


COMPILED = {
    "module.compile()": lambda model: model.compile(backend="eager"),
    "a module inside": lambda model: setattr(model, "activation", torch.compile(model.activation, backend="eager")),
    "a function": lambda model: setattr(model.activation, "forward", torch.compile(F.relu, backend="eager")),
}


@pytest.mark.parametrize("way", COMPILED)
def test_what_is_compiled_has_the_derivatives_of_the_same_network_as_it_is_written(way, images):
    torch.compiler.reset()
    plain, compiled = (build(lambda: Functions(Called(F.relu))) for _ in range(2))
    COMPILED[way](compiled)
    compiled(images)
    targets = torch.tensor([0, 1, 2])
    wanted, got = (
        curvature.product(softplus_surrogate(model, 3.0), images, targets, images.flip(0))
        for model in (plain, compiled)
    )
    assert wanted.norm() > 1e-3
    torch.testing.assert_close(got, wanted)
    torch.testing.assert_close(compiled(images), plain(images))


def test_a_checkpoint_is_refused_by_name(images):
    """Its layers are computed again where no softplus takes the place of ReLU."""
    again = functools.partial(checkpoint, lambda x: torch.maximum(x, -x.flip(1)), use_reentrant=False)
    model = build(lambda: Functions(again))
    surrogate = softplus_surrogate(model, 3.0)
    with pytest.raises(ValueError, match=r"as of a checkpoint \(torch.utils.checkpoint\).*turn them off"):
        surrogate(images.requires_grad_())
    with torch.no_grad():
        assert surrogate(images).shape == (3, 5)
    assert memory.saved_bytes(surrogate, images) > 0
    (gradient,) = torch.autograd.grad(model(images)[:, 0].sum(), images)
    assert gradient.any()


@pytest.mark.parametrize("make", [softplus_surrogate, smooth_surrogate], ids=lambda make: make.__name__)
def test_each_module_stays_in_its_mode(make):
    """As in fine-tuning, where batch normalisation is kept in evaluation mode."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    model[1].eval()
    surrogate = make(model)
    assert [module.training for module in model.modules()] == [True, True, False, True]
    assert surrogate.training
    assert not make(model.eval()).training


def test_the_surrogate_shares_the_parameters():
    model = build(KINDS["nn.ReLU"])
    shared = {p.data_ptr() for p in model.parameters()} & {p.data_ptr() for p in softplus_surrogate(model).parameters()}
    assert len(shared) == 4


def test_parameters_that_learn_get_their_gradients(images):
    model = build(KINDS["nn.ReLU"]).requires_grad_(True)
    softplus_surrogate(model)(images).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_the_larger_beta_the_closer_to_the_network(squeezenet, samples):
    image = samples.images[1:2]
    exact = squeezenet(image)
    errors = [(softplus_surrogate(squeezenet, beta)(image) - exact).norm().item() for beta in (0.3, 1.0, 3.0, 30.0)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.01 * exact.norm()


def test_squeezenets_surrogate_predicts_the_same_on_19_of_20_samples(squeezenet, samples):
    agree = data.predict(softplus_surrogate(squeezenet), samples.images) == data.predict(squeezenet, samples.images)
    assert agree.sum() == 19


@pytest.mark.parametrize("beta", [0, -1.0, float("nan"), float("inf"), "1"], ids=repr)
def test_a_bad_beta_is_refused(beta, tiny):
    with pytest.raises(ValueError, match="beta: expected a number above 0"):
        softplus_surrogate(tiny, beta)


OTHERS = {  # of a network's own under the same name, and none of them its sharpness
    "nothing": None,
    "one for each channel": nn.Parameter(torch.ones(4)),
    "one": torch.tensor(3.0),
    "a switch": True,
}


@pytest.mark.parametrize("beta", OTHERS.values(), ids=OTHERS)
def test_what_a_network_calls_beta_is_its_sharpness_if_it_is_a_number(beta, tiny, tiny_batch):
    images, labels = tiny_batch
    assert beta_of(tiny, images) == choose_beta(tiny, images)
    tiny.beta = beta
    chosen = choose_beta(tiny, images)
    assert beta_of(tiny, images) == chosen
    assert softplus_surrogate(tiny).beta == 1
    found = attacks.run(attacks.TopK(k=9), tiny, images, labels, saliency.Gradient(), eps=0.01, steps=1)
    assert found.settings.beta == chosen


@pytest.mark.parametrize("beta", [3, 3.0, np.float64(3)], ids=repr)
def test_every_number_is_a_sharpness(beta, tiny, tiny_batch):
    images, labels = tiny_batch
    tiny.beta = beta
    assert beta_of(tiny, images) == softplus_surrogate(tiny).beta == 3
    assert wrap(tiny, size=16).beta == 3
    found = attacks.run(attacks.TopK(k=9), tiny, images, labels, saliency.Gradient(), eps=0.01, steps=1)
    assert found.settings.beta == 3


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_torchscript_is_refused(tiny):
    with pytest.raises(ValueError, match="TorchScript"):
        softplus_surrogate(torch.jit.trace(tiny, torch.rand(1, 3, 16, 16)))


@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_a_surrogate_may_be_compiled_itself():
    surrogate, images = softplus_surrogate(Tiny().eval(), 2.0), torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(torch.compile(surrogate, backend="eager")(images), surrogate(images))
