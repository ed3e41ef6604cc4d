"""Networks that nobody here has prepared: exact, by autograd's double backward in float64, or refused by name."""

import copy
import threading
import types
import warnings

import pytest
import torch
import torch.nn.functional as F
from networks import Tiny
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parametrizations

from fragile_utils import saliency
from fragile_utils._base import once
from fragile_utils.models import softplus_surrogate
from fragile_utils.saliency.deeplift import Rescale
from fragile_utils.saliency.lrp import DeepTaylorRule, EpsilonRule
from fragile_utils.saliency.propagation import passes, programs
from fragile_utils.saliency.propagation.propagate import propagate
from fragile_utils.saliency.propagation.steps import Untraceable

SIZE, CLASSES = 8, 4
pytestmark = pytest.mark.filterwarnings("ignore:Using padding=.same.")


def batch(count=2, size=SIZE, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    images, vectors = (torch.rand(count, 3, size, size, generator=generator, dtype=dtype) for _ in range(2))
    return images, torch.arange(count) % CLASSES, vectors - 0.5


def by_autograd(model, images, targets, vectors):
    """Return the gradient of the score, and the product of its Hessian with `vectors`."""
    x = images.clone().requires_grad_()
    with sdpa_kernel(SDPBackend.MATH):
        (g,) = torch.autograd.grad(model(x).gather(1, targets[:, None]).sum(), x, create_graph=True)
        (product,) = torch.autograd.grad(g, x, vectors, materialize_grads=True)
    return g.detach(), product


def assert_exact(model, images, targets, vectors):
    """The walks give what autograd gives, on the surrogate of the network."""
    surrogate = softplus_surrogate(model, 3.0)
    gradient, product = by_autograd(surrogate, images, targets, vectors)
    assert product.abs().amax() > 1e-9
    made = passes.Pass(surrogate, images, targets)
    for got, wanted in ((made.multipliers, gradient), (made.product(vectors), product)):
        assert (got - wanted).norm() <= 1e-9 * wanted.norm()


class Net(nn.Module):
    """A convolution, a function of the model and what it gives, a layer."""

    def __init__(self, function, **modules):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.LazyLinear(CLASSES)
        for name, module in modules.items():
            setattr(self, name, module)
        self.function = function

    def forward(self, images):
        return self.last(self.function(self, F.relu(self.first(images))).flatten(1))


def built(function, size=SIZE, **modules):
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # uneven padding by name, and layers that are new
        torch.manual_seed(0)
        model = Net(function, **modules).double().eval()
        with torch.no_grad():
            model(torch.rand(2, 3, size, size, dtype=torch.float64))
        for module in model.modules():
            if hasattr(module, "running_mean") and module.running_mean is not None:
                module.running_mean.uniform_(-0.1, 0.1)
                module.running_var.uniform_(0.5, 1.5)
    return model.requires_grad_(False)


def attend(self, x):
    tokens = x.flatten(2).transpose(1, 2)
    return self.attention(tokens, tokens, tokens, need_weights=False)[0]


def multiply_out(self, x):
    q, k, v = torch.chunk(x.flatten(2).transpose(1, 2).repeat(1, 1, 3), 3, dim=-1)
    return F.scaled_dot_product_attention(q[:, None], k[:, None].sin(), v[:, None])


def _without_grad(x):
    with torch.no_grad():
        return x.cos()


class Constant(nn.Module):
    """Holds a buffer, a coordinate channel for instance."""

    def __init__(self, *shape):
        super().__init__()
        self.register_buffer("value", torch.linspace(-1, 1, shape[-1]).expand(1, *shape).clone())

    def forward(self, x):
        return torch.cat([x, self.value.expand(len(x), -1, -1, -1)], 1)


LAYERS = {
    "constant channel": built(lambda self, x: self.inner(x).square(), inner=Constant(1, SIZE, SIZE)),
    "column of ones": built(lambda self, x: torch.cat([x.flatten(1), x.new_ones(len(x), 1)], 1).sigmoid()),
    "cat of keywords": built(lambda self, x: torch.cat(tensors=[x, x.sin()], dim=1)),
    "layer norm": built(lambda self, x: self.norm(x), norm=nn.LayerNorm((4, SIZE, SIZE))),
    "group norm": built(lambda self, x: self.norm(x), norm=nn.GroupNorm(2, 4)),
    "instance norm": built(lambda self, x: self.norm(x), norm=nn.InstanceNorm2d(4, affine=True)),
    "batch norm": built(lambda self, x: self.norm(x).tanh(), norm=nn.BatchNorm2d(4)),
    "layer norm of tokens": built(lambda self, x: self.norm(x.flatten(2).mT) ** 2, norm=nn.LayerNorm(4, eps=0.1)),
    "layer norm of two axes": built(lambda self, x: F.layer_norm(x, (SIZE, SIZE)).sin()),
    "layer norm by the image": built(lambda self, x: F.layer_norm(x, (SIZE,), x.mean((0, 1, 2)))),
    "squeeze and excitation": built(
        lambda self, x: x * torch.sigmoid(self.gate(x.mean((2, 3), True))), gate=nn.Conv2d(4, 4, 1)
    ),
    "product of branches": built(lambda self, x: x * x.flip(2).tanh()),
    "einsum": built(lambda self, x: torch.einsum("nchw,nchv->ncwv", x, x)),
    "softmax inside": built(lambda self, x: x.softmax(1) * x),
    "softmax along the last axis": built(lambda self, x: F.softmax(3 * x, dim=-1).tanh()),
    "softmax of another type": built(lambda self, x: F.softmax(x.float(), -1, dtype=torch.float64)),
    "product of matrices": built(lambda self, x: x.sin() @ x.mT),
    "product of tokens": built(lambda self, x: torch.bmm(x.flatten(2), x.flatten(2).mT.sin())),
    "product with itself": built(lambda self, x: x @ x),
    "product of other shapes": built(lambda self, x: x @ x.mean(1).mT[:, None]),
    "product in the other order": built(lambda self, x: torch.matmul(other=x.sin(), input=x)),
    "GELU": built(lambda self, x: F.gelu(3 * x - 1)),
    "GELU by tanh": built(lambda self, x: F.gelu(3 * x - 1, approximate="tanh")),
    "SiLU": built(lambda self, x: F.silu(3 * x - 1)),
    "attention": built(attend, attention=nn.MultiheadAttention(4, 2, batch_first=True)),
    "scaled dot product": built(multiply_out),
    "transposed convolution": built(lambda self, x: self.up(x).tanh(), up=nn.ConvTranspose2d(4, 2, 3, stride=2)),
    "interpolation": built(lambda self, x: F.interpolate(x, scale_factor=2, mode="bilinear").tanh()),
    "pixel shuffle": built(lambda self, x: self.shuffle(x).tanh(), shuffle=nn.PixelShuffle(2)),
    "chunk": built(lambda self, x: torch.cat([a * b for a, b in [x.chunk(2, 1)]], 1)),
    "split": built(lambda self, x: torch.cat([part.sin() for part in x.split(1, dim=1)], 1)),
    "reflecting pad": built(lambda self, x: F.pad(x, (1, 1, 1, 1), mode="reflect").tanh()),
    "circular padding": built(
        lambda self, x: self.conv(x).tanh(), conv=nn.Conv2d(4, 3, 3, padding=1, padding_mode="circular")
    ),
    "uneven same padding": built(lambda self, x: self.conv(x).tanh(), conv=nn.Conv2d(4, 3, 4, padding="same")),
    "convolution in one dimension": built(lambda self, x: self.conv(x.flatten(2)).tanh(), conv=nn.Conv1d(4, 3, 3)),
    "two values of one pool": built(lambda self, x: torch.mul(*torch.aminmax(x, dim=3))),
    "reciprocal": built(lambda self, x: 1 / (1 + x)),
    "power": built(lambda self, x: x**2 + x.pow(3)),
    "in place": built(lambda self, x: x.add_(1).mul_(0.5).sigmoid_()),
    "in place by an operator": built(lambda self, x: (x := x * 2, x.__iadd__(0.1))[1].tanh()),
    "no_grad": built(lambda self, x: x.tanh() * _without_grad(x)),
    "detach": built(lambda self, x: x.sigmoid() * x.detach().sin()),
    "mask": built(lambda self, x: x.tanh() * (x > 0.2)),
    "where": built(lambda self, x: torch.where(x > 0.2, x.tanh(), x.sin())),
    "maximum": built(lambda self, x: torch.maximum(x, x.flip(2)).tanh()),
    "view": built(lambda self, x: x.contiguous().view(-1, 4 * SIZE * SIZE).tanh()),
    "reused": built(lambda self, x: self.first.weight.mean() * x.tanh() + x.tanh()),
    "weight norm": built(lambda self, x: self.conv(x).tanh(), conv=parametrizations.weight_norm(nn.Conv2d(4, 3, 3))),
    "dtype and device": built(lambda self, x: x.to(torch.float64).type(torch.float64).tanh()),
    "pool with indices": built(lambda self, x: F.max_pool2d(x.tanh(), 2, return_indices=True)[0].sin()),
    "absolute values": built(lambda self, x: self.conv((x - 0.3).tanh().abs()).tanh(), conv=nn.Conv2d(4, 3, 3)),
    "root of absolute values": built(lambda self, x: (x.abs() + 1e-3).sqrt()),
    "sum of absolute values": built(
        lambda self, x: self.up(x.norm(p=1, dim=1, keepdim=True)).tanh(), up=nn.Conv2d(1, 3, 3)
    ),
    "greatest by name": built(lambda self, x: x.max(1, keepdim=True).values.expand_as(x).tanh()),
    "sorted by name": built(lambda self, x: x.sort(1).values.tanh() * x.topk(2, 1).indices.sum(1, True)),
    "least and greatest by name": built(lambda self, x: (r := x.aminmax(dim=1)).min.sin() * r.max),
    "least and greatest together": built(lambda self, x: torch.stack(x.aminmax(dim=1)).movedim(1, 0).tanh()),
    "singular values": built(lambda self, x: torch.linalg.svd(x).S),
    "constant of the type of a value": built(
        lambda self, x: (x + self.value.type_as(x).to(x)).tanh(), value=torch.rand(4, 1, 1)
    ),
    "constant of the type of both": built(
        lambda self, x: (x + self.value.to(torch.result_type(x, self.value))).tanh(), value=torch.rand(4, 1, 1)
    ),
    "several powers": built(
        lambda self, x: (x.mean(1, True) + 1) ** self.value, value=torch.tensor([1.5, 2.0, 3.0])[:, None, None]
    ),
    "constant of the shape of a value": built(
        lambda self, x: (x * self.value.expand_as(x) + self.value.expand(x.shape).view_as(x)).tanh(),
        value=torch.rand(4, 1, 1).double(),
    ),
    "broadcast": built(
        lambda self, x: torch.cat(torch.broadcast_tensors(x, self.value), 1).tanh(), value=torch.rand(4, 1, 1).double()
    ),
    "where by keywords": built(lambda self, x: torch.where(x > 0.2, input=x.tanh(), other=x.sin())),
    "where by keywords alone": built(lambda self, x: torch.where(condition=x > 0.2, input=x.tanh(), other=x.sin())),
    "mask of constants": built(lambda self, x: x.flatten(1)[:, torch.arange(4 * SIZE**2) % 3 > 0].tanh()),
    "image by image": built(
        lambda self, x: torch.stack([self.conv(image) for image in x]).tanh(), conv=nn.Conv2d(4, 3, 3, stride=2)
    ),
    "leaky by the mean of its slopes": built(lambda self, x: self.act(x - 0.3).sin(), act=nn.RReLU()),
    "dropout of nothing": built(lambda self, x: F.dropout2d(F.dropout(x, 0.0), p=0.0).tanh()),
    "clipped at six": built(lambda self, x: F.relu6(12 * x - 3).sin()),
    "clipped by name": built(lambda self, x: F.hardtanh(3 * x - 1, max_val=0.5, min_val=-0.25).sin()),
    "clipped between numbers": built(lambda self, x: (3 * x).clamp(0.5, max=2).sin()),
    "clipped far away": built(lambda self, x: (3 * x).clamp(-1e9, 1e9).sin()),
    "clipped between tensors": built(
        lambda self, x: (3 * x).clamp(self.value, self.value + 1.5).sin(), value=torch.rand(4, 1, 1).double()
    ),
    "pool of a 3-d value": built(lambda self, x: F.max_pool2d(x.flatten(0, 1), 2).view(-1, 4, 4, 4).tanh()),
}
COMPLEX = built(lambda self, x: torch.fft.rfft(x).abs().square())


@pytest.mark.parametrize("name", LAYERS)
def test_layers_without_a_fast_form_are_exact(name):
    assert_exact(LAYERS[name], *batch())


@pytest.mark.parametrize("name", ["absolute values", "root of absolute values", "sum of absolute values"])
def test_absolute_values_that_nobody_smooths_are_exact(name):
    images, targets, vectors = batch()
    made = passes.Pass(LAYERS[name], images, targets)
    for got, wanted in zip(
        (made.multipliers, made.product(vectors)), by_autograd(LAYERS[name], images, targets, vectors), strict=True
    ):
        assert (got - wanted).norm() <= 1e-9 * wanted.norm()


WRITTEN_DOWN = {
    "layer norm": "LayerNorm",
    "layer norm of tokens": "LayerNorm",
    "layer norm of two axes": "LayerNorm",
    "softmax inside": "Softmax",
    "softmax along the last axis": "Softmax",
    "product of matrices": "Product",
    "product of tokens": "Product",
    "GELU": "ClosedForm",
    "SiLU": "ClosedForm",
    "clipped at six": "Clipped",
    "clipped by name": "Clipped",
    "clipped between numbers": "Clipped",
    "clipped far away": "Clipped",
}


LOOK_ALIKES = [
    *("layer norm by the image", "softmax of another type", "product with itself", "product of other shapes"),
    *("product in the other order", "GELU by tanh", "clipped between tensors"),
]


@pytest.mark.parametrize("name", [*WRITTEN_DOWN, *LOOK_ALIKES])
def test_derivatives_are_written_down_for_what_transformers_are_made_of(name):
    images, _, _ = batch()
    operations = programs.program_of(softplus_surrogate(LAYERS[name], 3.0), images).operations
    found = {type(operation).__name__ for operation in operations} & set(WRITTEN_DOWN.values())
    assert found == ({WRITTEN_DOWN[name]} if name in WRITTEN_DOWN else set())


@pytest.mark.parametrize("name", WRITTEN_DOWN)
def test_a_map_by_what_is_written_down_may_be_without_products(name):
    images, targets, vectors = batch()
    surrogate = softplus_surrogate(LAYERS[name], 3.0)
    made = passes.Pass(surrogate, images, targets, products=False)
    wanted, _ = by_autograd(surrogate, images, targets, vectors)
    torch.testing.assert_close(made.multipliers, wanted, rtol=1e-9, atol=1e-12)


def test_the_gradient_of_an_attack_is_exact_too():
    """The same through `Gradient`, which falls back to autograd where there is no program."""
    for model in (*LAYERS.values(), COMPLEX):
        images, targets, vectors = batch()
        surrogate = softplus_surrogate(model, 3.0)
        x = images.clone().requires_grad_()
        gradient, _ = saliency.Gradient().explain(surrogate, x, targets, create_graph=True)
        (found,) = torch.autograd.grad((gradient * vectors).sum(), x)
        _, wanted = by_autograd(surrogate, images, targets, vectors)
        assert (found - wanted).norm() <= 1e-9 * wanted.norm()


# --- What is left to autograd ---------------------------------------------------------------------------------------


def mean_where(self, x, size):
    """Return the mean of each image over the places at which the first channel is above the second."""
    return torch.stack(
        [(image * (image[0] > image[1])).sum((1, 2)) / size(image[0], image[0] > image[1]) for image in x]
    )


SIZES = {
    "index": lambda first, mask: len(first[mask]),
    "nonzero": lambda first, mask: mask.nonzero().shape[0],
    "argwhere": lambda first, mask: len(torch.argwhere(mask)),
    "where": lambda first, mask: len(torch.where(mask)[0]),
    "masked select": lambda first, mask: first.masked_select(mask).numel(),
    "unique": lambda first, mask: len((first * mask).unique()),
    "bincount": lambda first, mask: len(mask.sum(1).bincount()),
    "split": lambda first, mask: len(first.tensor_split(mask.sum(1)[:1])[0]) + 1,
    "repeats": lambda first, mask: len(first.repeat_interleave(mask.sum(1), 0)),
}


@pytest.mark.parametrize("name", SIZES)
def test_sizes_that_depend_on_values_are_those_of_each_image(name):
    model = built(lambda self, x: mean_where(self, x, SIZES[name]).sin())
    images, targets, vectors = batch()
    surrogate = softplus_surrogate(model, 3.0)
    wanted = by_autograd(surrogate, images, targets, vectors)
    with once.run():
        for given in (images.flip(1) ** 4, images):  # others first
            x = given.clone().requires_grad_()
            gradient, _ = saliency.Gradient().explain(surrogate, x, targets, create_graph=True)
            (product,) = torch.autograd.grad(gradient, x, vectors)
    for got, exact in zip((gradient, product), wanted, strict=True):
        assert (got - exact).norm() <= 1e-9 * exact.norm()
    with pytest.raises(Untraceable, match=r"^Net: .* gives a size that depends on values"):
        passes.Pass(surrogate, images, targets)


def within_autocast(self, x):
    with torch.autocast("cpu", torch.bfloat16):
        return self.conv(x).double().tanh()


def only_of_tensors(self, x):
    if type(x) is not torch.Tensor:
        raise KeyError("expected a tensor")
    return x.tanh()


UNFORESEEN = {
    "autocast": (built(within_autocast, conv=nn.Conv2d(4, 3, 3)), "conv: .*conv2d is called within autocast"),
    "error": (built(only_of_tensors), "model: expected .* that can be traced, got KeyError: 'expected a tensor'"),
    "transform": (built(lambda self, x: x + torch.func.grad(lambda y: y.pow(3).sum())(x)), "model|Net"),
}


@pytest.mark.parametrize("name", UNFORESEEN)
def test_what_cannot_be_traced_is_left_to_autograd(name):
    model, message = UNFORESEEN[name]
    images, targets, vectors = batch()
    surrogate = softplus_surrogate(model, 3.0)
    x = images.clone().requires_grad_()
    gradient, _ = saliency.Gradient().explain(surrogate, x, targets, create_graph=True)
    (found,) = torch.autograd.grad(gradient, x, vectors)
    for got, wanted in zip((gradient, found), by_autograd(surrogate, images, targets, vectors), strict=True):
        assert (got - wanted).norm() <= 1e-9 * wanted.norm()
    with pytest.raises(Untraceable, match=message):
        passes.Pass(surrogate, images, targets)


@pytest.mark.parametrize("error", [RuntimeError("CUDA out of memory"), MemoryError()], ids=["device", "host"])
def test_memory_that_is_short_while_a_network_is_traced_is_said(error):
    def function(self, x):
        if self.short:
            raise error
        return x.tanh()

    model, (images, targets, _) = built(function, short=False), batch()
    model.short = True
    with pytest.raises(type(error)):
        saliency.Gradient().explain(softplus_surrogate(model, 3.0), images, targets, create_graph=True)


def test_a_network_keeps_features_with_values():
    def function(self, x):
        self.features = x.tanh()
        self.kept["features"] = [self.features]
        return self.features

    model, (images, targets, _) = built(function, kept={}), batch()
    propagate(model, images, targets, Rescale(), images[:1])
    wanted = F.relu(model.first(images[:1])).tanh()  # of the reference, which comes last
    torch.testing.assert_close(model.features, wanted, rtol=0, atol=0)
    torch.testing.assert_close(model.kept["features"][0], wanted, rtol=0, atol=0)


# --- What autograd differentiates by rules of its own ----------------------------------------------------------------


class Straight(torch.autograd.Function):
    """A sine whose backward says that it is the identity."""

    @staticmethod
    def forward(ctx, x):
        return x.sin()

    @staticmethod
    def backward(ctx, grad):
        return grad * 1


def with_backward_hooks():
    model = built(lambda self, x: self.act(x).tanh(), act=nn.ReLU())
    model.act.register_full_backward_hook(lambda module, given, got: (given[0].clamp(min=0),))
    return model


class Swish(torch.autograd.Function):
    """As the activation of this name, with its derivative written out."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x.sigmoid()

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        gate = x.sigmoid()
        return grad * (gate + x * gate * (1 - gate))


FOREIGN = {
    "custom function": (
        built(lambda self, x: Straight.apply(x.tanh())),
        "Net: .*sin is called by an autograd.Function",
    ),
    "backward hooks": (with_backward_hooks(), "act: expected no backward hooks"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_gradients_by_rules_of_their_own_are_left_to_autograd_or_refused(name):
    model, message = FOREIGN[name]
    images, targets, vectors = batch()
    surrogate = softplus_surrogate(model, 3.0)
    with pytest.raises(Untraceable, match=message):
        passes.Pass(surrogate, images, targets)
    with pytest.raises(ValueError, match=message):
        propagate(surrogate, images, targets, Rescale(), images[:1])
    x = images.clone().requires_grad_()
    gradient, _ = saliency.Gradient().explain(surrogate, x, targets, create_graph=True)
    (found,) = torch.autograd.grad((gradient * vectors).sum(), x)
    wanted = by_autograd(surrogate, images, targets, vectors)
    assert (gradient - wanted[0]).norm() <= 1e-9 * wanted[0].norm()
    assert (found - wanted[1]).norm() <= 1e-9 * wanted[1].norm()


def test_a_custom_function_that_two_images_do_not_show_is_left_to_autograd():
    images, targets, vectors = batch(4)
    images[:2] *= 0.1  # dark, where the gate is shut; nothing but these would be compared

    def function(self, x):
        gate = (self.images.mean((1, 2, 3), keepdim=True) - 0.3).relu()
        return x.tanh() + gate * Swish.apply(x)

    model = built(function, images=images[:2])
    model.register_forward_pre_hook(lambda module, given: setattr(module, "images", given[0]))
    surrogate = softplus_surrogate(model, 3.0)
    x = images.clone().requires_grad_()
    gradient, _ = saliency.Gradient().explain(surrogate, x, targets, create_graph=True)
    (found,) = torch.autograd.grad((gradient * vectors).sum(), x)
    wanted = by_autograd(surrogate, images, targets, vectors)
    assert (model(images[2:]) - built(lambda self, x: x.tanh())(images[2:])).abs().amax() > 0
    for got, exact in zip((gradient, found), wanted, strict=True):
        assert ((got - exact).flatten(1).norm(dim=1) <= 1e-9 * exact.flatten(1).norm(dim=1)).all()


@pytest.mark.parametrize("name", ["layer norm", "attention", "product of branches", "detach", "softmax inside"])
@pytest.mark.parametrize(
    "rule", [Rescale(), EpsilonRule(), DeepTaylorRule()], ids=["deeplift", "epsilon", "deep-taylor"]
)
def test_rules_refuse_by_name_what_they_say_nothing_of(name, rule):
    images, targets, _ = batch()
    with pytest.raises(ValueError, match=r"^(norm|attention|Net) \(.*\) has no propagation rule of (DeepLIFT|LRP)"):
        propagate(LAYERS[name], images, targets, rule, images[:1])


WITHOUT_WEIGHTS = ["leaky by the mean of its slopes", "dropout of nothing", "constant of the type of a value"]
LINEAR = ["transposed convolution", "interpolation", "pixel shuffle", "reflecting pad", "circular padding", "chunk"]


@pytest.mark.parametrize(
    "name", [*LINEAR, *WITHOUT_WEIGHTS, "constant channel", "column of ones", "convolution in one dimension"]
)
def test_contributions_are_complete_where_steps_are_linear(name):
    model, (images, targets, _) = LAYERS[name], batch()
    if name == "chunk":
        model = built(lambda self, x: torch.cat(x.chunk(2, 1)[::-1], 1).tanh())
    reference = images.flip(0)
    multipliers, logits = propagate(model, images, targets, Rescale(), reference)
    difference = (logits - model(reference)).gather(1, targets[:, None])[:, 0]
    torch.testing.assert_close((multipliers * (images - reference)).sum((1, 2, 3)), difference, rtol=1e-9, atol=1e-12)


# --- Networks that change between calls ------------------------------------------------------------------------------


def change_norm(model):
    model.norm.eps = 0.5


def change_weight_norm(model):
    state = {name: 1.5 * value for name, value in model.state_dict().items()}
    model.load_state_dict(state)


def change_attribute(model):
    model.scale = 3.0


def add_hook(model):
    model.first.register_forward_hook(lambda module, given, got: got.sin())


def counted(self, x):
    return (x * self.times.item()).tanh()


def configured(self, x):
    return (x * self.config.scale).tanh()


def with_shared_parts():
    a, b = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
    return built(lambda self, x: self.c(self.b(self.a(x))).tanh(), a=a, b=b, c=a)


CHANGES = {
    "number in a parameter": (
        lambda: built(counted, times=nn.Parameter(torch.tensor(1.0))),
        lambda model: model.times.fill_(3.0),
    ),
    "number in a configuration": (
        lambda: built(configured, config=types.SimpleNamespace(scale=1.0)),
        lambda model: setattr(model.config, "scale", 3.0),
    ),
    "a part in another place": (with_shared_parts, lambda model: setattr(model, "c", model.b)),
    "eps of batch norm": (lambda: built(lambda self, x: self.norm(x).tanh(), norm=nn.BatchNorm2d(4)), change_norm),
    "weight norm": (lambda: copy.deepcopy(LAYERS["weight norm"]), change_weight_norm),
    "attribute": (lambda: built(lambda self, x: (x * getattr(self, "scale", 1.0)).tanh()), change_attribute),
    "forward hook": (lambda: built(lambda self, x: x.tanh()), add_hook),
    "function": (
        lambda: built(lambda self, x: x.tanh()),
        lambda model: setattr(model, "function", lambda self, x: x.sin()),
    ),
    "weights in place": (lambda: built(lambda self, x: x.tanh()), lambda model: model.first.weight.data.mul_(2)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_no_program_outlives_a_change_of_the_network(name):
    build, change = CHANGES[name]
    model, given = build(), batch()
    surrogate = softplus_surrogate(model, 3.0)
    before = passes.Pass(surrogate, *given[:2]).multipliers
    change(model)
    model.requires_grad_(False)
    gradient, product = by_autograd(surrogate, *given)
    made = passes.Pass(surrogate, *given[:2])
    assert (gradient - before).norm() > 1e-3 * gradient.norm()
    assert (made.multipliers - gradient).norm() <= 1e-9 * gradient.norm()
    assert (made.product(given[2]) - product).norm() <= 1e-9 * product.norm()


def test_threads_on_one_network_do_not_meet():
    model, (images, targets, vectors) = Tiny().double().eval().requires_grad_(False), batch(4, size=16)
    surrogate = softplus_surrogate(model, 3.0)
    wanted = passes.Pass(softplus_surrogate(copy.deepcopy(model), 3.0), images, targets).product(vectors)
    errors = []

    def work(count):
        try:
            for _ in range(5):
                got = passes.Pass(surrogate, images[:count], targets[:count]).product(vectors[:count])
                torch.testing.assert_close(got, wanted[:count])
                programs._compared.pop(model, None)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(1 + i % 4,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
