"""Each operator against PyTorch: the same function, traced and exported alone, on random inputs."""

import pytest
import torch
import torch.nn.functional as F
from exported import run
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fragile_utils.laboratory.operators import OPERATORS
from fragile_utils.laboratory.trace import traced
from fragile_utils.laboratory.translate import translated

aten = torch.ops.aten


def exported(function, *arguments):
    """What a function gives, as ONNX; and as PyTorch."""

    def as_tuple(*given):
        found = function(*(x.clone() for x in given))
        return found if isinstance(found, tuple) else (found,)

    expected = as_tuple(*arguments)
    names = [f"in{i}" for i in range(len(arguments))], [f"out{i}" for i in range(len(expected))]
    model = translated(*traced(as_tuple, arguments, OPERATORS), arguments, *names, "test")
    return run(model, names[0], arguments), expected, model


def assert_same(function, *arguments, rtol=1e-5, atol=1e-6):
    found, expected, model = exported(function, *arguments)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b.contiguous(), rtol=rtol, atol=atol)
    return [node.op_type for node in model.graph.node]


def gradient(function):
    """The derivative of a function, times numbers that differ from place to place."""

    def of(x):
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            y = function(x)
            weights = torch.linspace(-1, 1, y.numel()).view(y.shape)
            return torch.autograd.grad(y, x, weights)[0]

    return of


X = torch.randn(2, 4, 9, 8, generator=torch.Generator().manual_seed(0))
Y = torch.randn(2, 4, 9, 8, generator=torch.Generator().manual_seed(1))
MASK = X > 0

UNARY = {
    **{name: getattr(torch, name) for name in ("neg", "abs", "reciprocal", "exp", "erf", "tanh", "sin", "cos", "tan")},
    **{name: getattr(torch, name) for name in ("atan", "sinh", "cosh", "floor", "ceil", "round", "isnan", "isinf")},
    **{name: getattr(torch, name) for name in ("sign", "sgn", "sigmoid", "expm1", "square", "logical_not")},
    **{name: getattr(F, name) for name in ("relu", "gelu", "silu", "mish", "elu", "selu", "celu", "hardswish")},
    **{name: getattr(F, name) for name in ("hardsigmoid", "relu6", "leaky_relu", "softplus", "logsigmoid")},
    **{name: getattr(F, name) for name in ("softsign", "tanhshrink", "softshrink", "hardshrink", "hardtanh")},
    "log": lambda x: x.abs().log(),
    "sqrt": lambda x: x.abs().sqrt(),
    "rsqrt": lambda x: x.abs().rsqrt(),
    "log1p": lambda x: x.abs().log1p(),
    "power": lambda x: (x**2, x**3, x.abs() ** 0.5, 2.0**x, x.abs() ** x),
    "clamp": lambda x: (x.clamp(0), x.clamp(-0.5, 0.5), x.clamp(max=0.1), x.clamp(x - 1, x * 2)),
    "threshold": lambda x: F.threshold(x, 0.3, 7),
}
BINARY = {
    "arithmetic": lambda x, y: (x + y, x - y, x * y, x / y, x - 2, 3 - x, x / 3, 2 / x, torch.add(x, y, alpha=0.5)),
    "alpha": lambda x, y: (torch.sub(x, y, alpha=3), torch.rsub(x, y, alpha=3), torch.rsub(x, 2, alpha=3)),
    "extremes": lambda x, y: (torch.minimum(x, y), torch.maximum(x, y)),
    "comparisons": lambda x, y: (x > y, x >= y, x < y, x <= y, x == y, x != y, x > 0, x <= 1, x.round() == 1, x != 0),
    "truth": lambda x, y: ((x > 0) & (y > 0), (x > 0) | (y > 0), (x > 0) ^ (y > 0), ~(x > 0), (x > 0) * (y > 0)),
    "types": lambda x, y: (x * (y > 0), (x > 0) + y, (x > 0).float(), x.int(), (x > 0).long() + 1, x.long() / 2),
    "where": lambda x, y: (torch.where(x > 0, x, y), torch.where(x > 0, x, 2.0), torch.where(x > 0, 1.0, y)),
    "lerp": lambda x, y: (torch.lerp(x, y, 0.3), torch.lerp(x, y, x)),
    "masked_fill": lambda x, y: x.masked_fill(y > 0, -3),
}
ARRANGED = {
    "views": lambda x: (x.view(8, 9, 8), x.flatten(1), x.unsqueeze(1), x[:1].squeeze(0), x.unflatten(1, (2, 2))),
    "axes": lambda x: (x.permute(0, 2, 3, 1), x.transpose(1, 3), x[0, 0].t(), x.movedim(1, -1)),
    "repeats": lambda x: (x[:, :1].expand(2, 3, 9, 8), x.repeat(1, 2, 1, 1), x.repeat(2, 1, 1, 1, 1), x.tile(2)),
    "slices": lambda x: (x[:, 1:3], x[..., ::2], x[:, -1], x[0], x[..., -3:], x[:, :, 2:-1], x[:, :, 5:100], x[:]),
    "parts": lambda x: (*x.chunk(3, 1), *x.split([3, 6], 2), *x.unbind(1)),
    "together": lambda x: (torch.cat([x, x * 2], 1), torch.stack([x, x * 2], -1), torch.cat([x[:, :1], x], 1)),
    "turned": lambda x: (x.flip(2), x.flip(1, 3), x.roll(2, 1), x.roll((1, -2), (2, 3)), x.rot90(1, (2, 3))),
    "pads": lambda x: (F.pad(x, (1, 2, 0, 3)), F.pad(x, (-1, 2), value=5.0), F.pad(x, (1, 1, 1, 1), mode="reflect")),
    "shuffles": lambda x: (F.pixel_shuffle(x, 2), F.pixel_unshuffle(x[..., :8, :], 2), F.channel_shuffle(x, 2)),
    "indices": lambda x: (x[:, [2, 0, -1]], x[:, :, [[0, 1]], [[2, -1]]], x.index_select(1, torch.tensor([3, 0]))),
}
PLACED = {
    "slice": lambda x: _changed(x, lambda z: z[:, 1:3].mul_(2)),
    "slices": lambda x: _changed(x, lambda z: [z[:, i : i + 2].add_(z[:, :2]) for i in (0, 2)]),
    "step": lambda x: _changed(x, lambda z: z[..., 1::3].fill_(4)),
    "row": lambda x: _changed(x, lambda z: z[:, 2].copy_(x[:, 0])),
    "all": lambda x: _changed(x, lambda z: z.mul_(3).clamp_(0, 1).sub_(x, alpha=2)),
    "new": lambda x: _changed(torch.zeros_like(x), lambda z: z[:1].add_(x[:1])),
    "scatter": lambda x: (
        x.scatter(1, x.argmax(1, keepdim=True), 9.0),
        torch.zeros(2, 4, 9, 8).scatter(1, x.argmax(1, keepdim=True), x),
        torch.zeros(2, 3, 9, 8).scatter_add(1, (x > 0).long() + (x > 1).long(), x),
    ),
    "gather": lambda x: (x.gather(1, x.argmax(1, keepdim=True)), x.gather(1, (x > 0).long())),
}
SUMMED = {
    "sums": lambda x: (x.sum(), x.sum(1), x.sum((2, 3), keepdim=True), (x > 0).sum(), x.mean(), x.mean((2, 3))),
    "extremes": lambda x: (x.amax(1), x.amin((1, 2), keepdim=True), *x.max(2), *x.min(2, keepdim=True), x.amax()),
    "places": lambda x: (x.argmax(), x.argmax(1), x.argmin(2, keepdim=True), x.flatten(1).argmax(1)),
    "truth": lambda x: ((x > 0).all(), (x > 0).any(1), (x > -9).all(1), (x > 0).all(2, keepdim=True), (x > 9).any()),
    "spread": lambda x: (x.var(1), x.std((2, 3)), x.norm(), x.norm(dim=1), torch.linalg.vector_norm(x, 1, 2)),
    "others": lambda x: (x.prod(1), x.cumsum(1), x.logsumexp(1), x.softmax(1), x.log_softmax(1)),
    "products": lambda x: (x @ x.mT, x[0, 0] @ x[0, 1].mT, x[0, 0] @ x[0, 0, 0], x[0, 0, 0] @ x[0, 0, 1]),
    "linear": lambda x: (
        F.linear(x, Y[0, 0]),
        F.linear(x, Y[0, 0], Y[0, 0, :, 0]),
        torch.einsum("nchw,ndhw->ncd", x, x),
    ),
    "norms": lambda x: (F.layer_norm(x, (8,)), F.group_norm(x, 2), F.batch_norm(x, Y[0, :, 0, 0], Y[0, :, 0, 1].exp())),
    "attention": lambda x: F.scaled_dot_product_attention(x, x * 2, x + 1),
}


@pytest.mark.parametrize("function", UNARY.values(), ids=UNARY)
def test_numbers(function):
    assert_same(function, X)


@pytest.mark.parametrize("function", BINARY.values(), ids=BINARY)
def test_pairs_of_numbers(function):
    assert_same(function, X, torch.where(MASK, Y, X))


@pytest.mark.parametrize(
    "function", [*ARRANGED.values(), *PLACED.values()], ids=[*ARRANGED, *(f"in-{n}" for n in PLACED)]
)
def test_places(function):
    assert_same(function, X)


@pytest.mark.parametrize("function", SUMMED.values(), ids=SUMMED)
def test_sums(function):
    assert_same(function, X, rtol=1e-4, atol=1e-5)


def _changed(x, change):
    x = x.clone()
    change(x)
    return x


# --- Windows, and their derivatives ----------------------------------------------------------------------------------

WINDOWS = {
    "average": lambda x: F.avg_pool2d(x, 3, 2),
    "average, padded": lambda x: F.avg_pool2d(x, (3, 2), 2, (1, 0), count_include_pad=False),
    "average, up": lambda x: F.avg_pool2d(x, 2, 2, ceil_mode=True),
    "average, 1d": lambda x: F.avg_pool1d(x[:, :, 0], 3, 2, 1),
    "average to one": lambda x: F.adaptive_avg_pool2d(x, 1),
    "average to any": lambda x: F.adaptive_avg_pool2d(x, (4, 3)),
    "maximum": lambda x: F.max_pool2d(x, 2),
    "maximum, overlapping": lambda x: F.max_pool2d(x, 3, 2),
    "maximum, padded": lambda x: F.max_pool2d(x, 3, 2, 1),
    "maximum, up": lambda x: F.max_pool2d(x, 3, 2, ceil_mode=True),
    "maximum, dilated": lambda x: F.max_pool2d(x, 2, 1, dilation=3),
    "bilinear": lambda x: F.interpolate(x, (13, 5), mode="bilinear"),
    "bilinear, corners": lambda x: F.interpolate(x, scale_factor=2.5, mode="bilinear", align_corners=True),
    "nearest": lambda x: F.interpolate(x, (13, 5), mode="nearest"),
    "nearest, scaled": lambda x: F.interpolate(x, scale_factor=1.7, mode="nearest"),
}


@pytest.mark.parametrize("function", WINDOWS.values(), ids=WINDOWS)
def test_windows(function):
    assert_same(function, X)
    assert_same(gradient(function), X)


@settings(max_examples=40, deadline=None)
@given(
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    padding=st.integers(0, 3),
    dilation=st.integers(1, 2),
    groups=st.sampled_from([1, 2, 4]),
    bias=st.booleans(),
    transposed=st.booleans(),
    more=st.integers(0, 2),
)
def test_convolutions(kernel, stride, padding, dilation, groups, bias, transposed, more):
    reach = dilation * (kernel - 1)
    assume(8 + 2 * padding > reach)
    torch.manual_seed(kernel)
    if transposed:
        assume(more < stride and (8 - 1) * stride - 2 * padding + reach + more >= 0)
        weight, addend = torch.randn(4, 6 // 2, kernel, kernel), torch.randn(3 * groups) if bias else None
        function = lambda x: F.conv_transpose2d(x, weight, addend, stride, padding, more, groups, dilation)  # noqa: E731
    else:
        weight, addend = torch.randn(8, 4 // groups, kernel, kernel), torch.randn(8) if bias else None
        function = lambda x: F.conv2d(x, weight, addend, stride, padding, dilation, groups)  # noqa: E731
    assert_same(function, X, rtol=1e-4, atol=1e-4)
    assert_same(gradient(function), X, rtol=1e-4, atol=1e-4)


ONE_FOR_BOTH = {  # axes
    "stride": lambda x: F.conv2d(x, torch.ones(5, 4, 3, 3), stride=[2]),
    "padding": lambda x: F.conv2d(x, torch.ones(5, 4, 3, 3), padding=(1,)),
    "dilation": lambda x: F.conv2d(x, torch.ones(5, 4, 3, 3), dilation=[2]),
    "transposed": lambda x: F.conv_transpose2d(x, torch.ones(4, 5, 3, 3), None, [2], [1], [1]),
}


@pytest.mark.parametrize("function", ONE_FOR_BOTH.values(), ids=ONE_FOR_BOTH)
def test_options_of_one_element_are_those_of_both_axes(function):
    assert_same(function, X, rtol=1e-4, atol=1e-4)
    assert_same(gradient(function), X, rtol=1e-4, atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), st.integers(1, 3), st.integers(0, 2), st.integers(1, 2), st.booleans(), st.integers(0, 99))
def test_the_places_of_maxima_are_pytorchs_ties_included(kernel, stride, padding, dilation, up, seed):
    assume(padding <= kernel // 2)
    few = torch.randint(0, 3, (2, 3, 9, 10), generator=torch.Generator().manual_seed(seed)).float()
    options = {"stride": stride, "padding": padding, "dilation": dilation, "ceil_mode": up}
    assert_same(lambda x: F.max_pool2d(x, kernel, **options, return_indices=True), few)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_what_arrives_at_maxima_is_put_back_at_their_places(layout):
    """As the walks do: windows that overlap add up, and of what the result is like only the shape is known."""
    pooled, places = F.max_pool2d(X, 3, 2, return_indices=True)

    def put_back(m):
        like = torch.empty(X.shape).to(memory_format=layout)
        return aten.adaptive_max_pool2d_backward(m.to(memory_format=layout), like, places)

    arrives = torch.randn(pooled.shape, generator=torch.Generator().manual_seed(3))
    assert "ScatterElements" in assert_same(put_back, arrives)
    truth = X.clone().requires_grad_()
    F.max_pool2d(truth, 3, 2).backward(arrives)
    torch.testing.assert_close(exported(put_back, arrives)[0][0], truth.grad)


def test_convolutions_of_one_axis():
    weight = torch.randn(5, 4, 3)
    assert_same(lambda x: F.conv1d(x[:, :, 0], weight, padding=1), X, rtol=1e-4, atol=1e-4)


# --- What is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "named"),
    [
        (lambda x: x.sort(1).values, r"aten\.sort\.default cannot be exported: no operator"),
        (lambda x: torch.rand(3) + x[0, 0, 0, 0], "draws random numbers"),
        (lambda x: x.half(), "expected a value of float32, got float16"),
        (lambda x: x.long() & 3, "bits of whole numbers"),
        (lambda x: F.avg_pool2d(x, 2, divisor_override=3), r"aten\.avg_pool2d\.default cannot be exported: .*divisor"),
        (lambda x: x[:, torch.tensor([0, 1]), :, torch.tensor([0, 1])], "stand side by side"),
        (
            lambda x: F.conv_transpose2d(x, torch.ones(4, 1, 2, 2), output_padding=1, dilation=2),
            "output padding below the stride",
        ),
        (lambda x: x * x.sum().item(), "computes the same for every image"),
    ],
)
def test_what_has_no_operator_is_named(function, named):
    with pytest.raises(ValueError, match=named):
        exported(function, X)
