"""Softplus against PyTorch's own, and the surrogate against the network written with it."""

import functools
import threading
import time

import pytest
import torch
import torch.nn.functional as F
from networks import Tiny
from torch import nn
from torch.utils.checkpoint import checkpoint

from fragile_utils import curvature, data
from fragile_utils._base import memory
from fragile_utils.models.smooth_pooling import smooth_surrogate
from fragile_utils.models.surrogate import kinks_left, softplus, softplus_surrogate

BETAS = [0.5, 1.0, 7.0]


def values(dtype, n=400):
    return torch.linspace(-60, 60, n, dtype=dtype)


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-7), (torch.float64, 1e-14)], ids=["32", "64"])
def test_softplus_and_its_derivatives_equal_the_closed_form(beta, dtype, tolerance):
    x = values(dtype).requires_grad_()
    y = softplus(x, beta)
    (first,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    z = x.detach().double() * beta
    expected = (
        torch.logaddexp(z, torch.zeros_like(z)) / beta,
        torch.sigmoid(z),
        beta * torch.sigmoid(z) * torch.sigmoid(-z),
    )
    for got, want in zip((y, first, second), expected, strict=True):
        assert got.dtype == dtype
        assert (got.detach().double() - want).abs().max() <= tolerance * max(1, 60, beta)


@pytest.mark.parametrize("beta", BETAS)
def test_softplus_passes_the_numerical_checks_of_both_derivatives(beta):
    x = torch.linspace(-4, 4, 13, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: softplus(t, beta), x)
    assert torch.autograd.gradgradcheck(lambda t: softplus(t, beta), x)


def test_softplus_has_no_denormal_numbers():
    x = values(torch.float32, 5000).requires_grad_()
    y = softplus(x, 3.0)
    (first,) = torch.autograd.grad(y.sum(), x)
    for tensor in (y.detach(), first):
        assert not ((tensor != 0) & (tensor.abs() < torch.finfo(torch.float32).tiny)).any()
        assert (tensor == 0).any()


def test_a_third_derivative_is_exact_too():
    x = torch.linspace(-3, 3, 7, dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad((softplus(x, 2.0) + x**4).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x, create_graph=True)
    (third,) = torch.autograd.grad(second.sum(), x)
    s = torch.sigmoid(2 * x.detach())
    torch.testing.assert_close(third, 4 * s * (1 - s) * (1 - 2 * s) + 24 * x.detach())


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")
def test_softplus_works_under_vmap():
    def hessian(f):
        return torch.func.jacrev(torch.func.jacrev(f))

    x = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    got = torch.func.vmap(hessian(lambda row: softplus(row, 2.0).square().sum()))(x)
    expected = torch.func.vmap(hessian(lambda row: F.softplus(row, 2.0, threshold=100).square().sum()))(x)
    torch.testing.assert_close(got, expected)


# --- The surrogate ---------------------------------------------------------------------------------------------------


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


ABSOLUTE = [abs, torch.abs, torch.absolute, torch.Tensor.absolute, torch.Tensor.absolute_]


@pytest.mark.parametrize("form", ABSOLUTE, ids=["abs", "torch.abs", "torch.absolute", "method", "in place"])
def test_every_form_of_the_absolute_value_is_smoothed(form, images):
    got = softplus_surrogate(build(lambda: Functions(form)), 3.0)(images)
    expected = build(lambda: Functions(lambda x: 2 * F.softplus(x, 3.0, threshold=100) - x))(images)
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda x: x.max(3).values, "torch.max"),
        (lambda x: torch.min(x, dim=3)[0], "torch.min"),
        (lambda x: x / x.max(), "torch.max"),
        (lambda x: torch.amax(x, 3), "torch.amax"),
        (lambda x: x.amin(3), "torch.amin"),
    ],
    ids=["max of an axis", "min of an axis", "max of all", "amax", "amin"],
)
def test_maxima_over_an_axis_keep_their_kinks_and_are_named(function, name, images):
    model = build(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), Called(function), nn.Flatten()))
    surrogate = softplus_surrogate(model, 3.0)
    torch.testing.assert_close(surrogate(images), model(images))
    assert not surrogate.replaced
    assert kinks_left(surrogate, images) == [name]


def relu_and_clamp(x):
    return torch.relu(x) + torch.clamp(x, -0.2, 0.1)


LEFT = {
    "scripted": (lambda x: torch.jit.script(relu_and_clamp)(x), ["torch.relu", "torch.clamp"]),
    "sort": (lambda x: x.sort(1)[0], ["torch.sort"]),
    "topk": (lambda x: x.topk(2, 1)[0], ["torch.topk"]),
    "kthvalue": (lambda x: x.kthvalue(2, 1)[0], ["torch.kthvalue"]),
    "median": (lambda x: x.median(1)[0], ["torch.median"]),
    "cummax": (lambda x: x.cummax(1)[0], ["torch.cummax"]),
    "threshold in place": (lambda x: F.threshold_(x * 1, 0, 0), ["torch.threshold"]),
    "greater": (lambda x: x * torch.greater(x, 0), ["torch.gt"]),
    "of what is detached": (lambda x: x * (x.detach() > 0), ["torch.gt"]),
    "remainder": (lambda x: torch.remainder(x, 0.1), ["torch.remainder"]),
    "signbit": (lambda x: x.masked_fill(x.signbit(), 0), ["torch.signbit"]),
    "whole numbers": (lambda x: x * (4 * x).long(), ["torch.to_copy"]),
    "places": (lambda x: x.take_along_dim(x.argmax(1, keepdim=True), 1), ["torch.argmax"]),
    "lp_pool2d": (lambda x: F.lp_pool2d(x, 1, 2), ["torch.sign", "torch.abs", "torch.relu"]),
    "norm": (lambda x: x.norm(p=1, dim=1), ["torch.linalg_vector_norm"]),
    "max_pool1d": (lambda x: F.max_pool1d(x.flatten(2), 2), ["torch.max_pool2d"]),
    "max_pool2d": (lambda x: F.max_pool2d(x, 2), ["torch.max_pool2d"]),
    "max_pool3d": (lambda x: F.max_pool3d(x, 2), ["torch.max_pool3d"]),
    "adaptive_max_pool1d": (lambda x: F.adaptive_max_pool1d(x.flatten(2), 8), ["torch.adaptive_max_pool2d"]),
    "fractional_max_pool2d": (
        lambda x: F.fractional_max_pool2d(x, 2, 5, _random_samples=torch.full((*x.shape[:2], 2), 0.3).to(x)),
        ["torch.fractional_max_pool2d"],
    ),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("name", LEFT)
def test_whatever_keeps_its_kinks_is_named_and_no_hessian_is_zero_without_a_word(name, images):
    function, names = LEFT[name]
    model = build(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), Called(function), nn.Flatten()))
    surrogate = softplus_surrogate(model, 3.0)
    assert kinks_left(surrogate, images) == names
    targets = torch.tensor([0, 1, 2])
    with pytest.raises(ValueError, match=f"its Hessian is zero, since it computes {', '.join(names)}, whose kinks"):
        curvature.product(surrogate, images, targets, images.flip(0))


SMOOTH = {
    "GELU": F.gelu,
    "softmax": lambda x: x.softmax(1),
    "layer norm": lambda x: F.layer_norm(x, x.shape[1:]),
    "normalize": F.normalize,
    "standard deviation": lambda x: x / (1 + x.std(1, keepdim=True)),
    "inverse": lambda x: torch.linalg.inv(x.flatten(2) @ x.flatten(2).mT + torch.eye(4, dtype=x.dtype)),
    "whole numbers of no values": lambda x: x + torch.zeros_like(x, dtype=torch.long) + x.new_ones(1, dtype=torch.long),
    "a mask": lambda x: x.masked_fill(torch.ones(x.shape[2:], dtype=torch.bool).tril(), 0),
    "all that is replaced": lambda x: F.relu(x) + F.relu6(x) + x.abs() + F.hardswish(x) + F.selu(x) + x.clamp(-1, 1),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_what_is_smooth_is_not_named(name, images):
    model = build(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), Called(SMOOTH[name]), nn.Flatten(0)))
    assert kinks_left(softplus_surrogate(model, 3.0), images) == []


class Called(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.forward = function


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


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_torchscript_is_refused(tiny):
    with pytest.raises(ValueError, match="TorchScript"):
        softplus_surrogate(torch.jit.trace(tiny, torch.rand(1, 3, 16, 16)))


class Masked(nn.Module):
    """Linear, but for classes that a constant leaves out."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(3 * 16 * 16, 5)
        self.register_buffer("out", torch.tensor([0.0, 0, 0, 0, 1]))

    def forward(self, x):
        return self.last(x.flatten(1)).masked_fill(self.out != 0, -1e4)


def test_a_step_of_constants_is_none_of_the_images():
    images = torch.rand(2, 3, 16, 16)
    assert kinks_left(softplus_surrogate(Masked().eval()), images) == []


def test_passes_of_several_threads_leave_the_compiler_as_it_was():
    class Slow(nn.Module):
        def __init__(self, seconds):
            super().__init__()
            self.seconds = seconds

        def forward(self, x):
            time.sleep(self.seconds)
            return torch.relu(x)

    threads = [
        threading.Thread(target=softplus_surrogate(Slow(seconds)), args=(torch.rand(1, 3, 4, 4),))
        for seconds in (0.1, 0.3)
    ]
    for thread in threads:
        thread.start()
        time.sleep(0.05)
    for thread in threads:
        thread.join()
    assert torch._dynamo.eval_frame._stance.stance == "default"


@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_a_surrogate_may_be_compiled_itself():
    surrogate, images = softplus_surrogate(Tiny().eval(), 2.0), torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(torch.compile(surrogate, backend="eager")(images), surrogate(images))
