"""The smooth maximum against log-sum-exp over unfolded windows, and the surrogate without kinks."""

import pytest
import torch
import torch.nn.functional as F
from networks import Tiny
from torch import nn

from fragile_utils.models.kinks import kinks_left
from fragile_utils.models.smooth_pooling import SmoothPooling, smooth_max_pool2d, smooth_surrogate
from fragile_utils.models.surrogate import SoftplusSurrogate, softplus_surrogate

GEOMETRIES = {
    "plain": {"kernel_size": 2},
    "overlapping": {"kernel_size": 3, "stride": 2},
    "padded": {"kernel_size": 3, "stride": 2, "padding": 1},
    "oblong": {"kernel_size": (2, 3), "stride": (3, 1), "padding": (1, 0)},
    "one number for both axes": {"kernel_size": [3], "stride": (2,), "padding": [1]},
    "dilated": {"kernel_size": 2, "stride": 2, "dilation": 3},
    "up to the edge": {"kernel_size": 3, "stride": 2, "ceil_mode": True},
    "up to the edge, gaps": {"kernel_size": 2, "stride": 4, "ceil_mode": True},
}
over_geometries = pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)


def images(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def naive(x, beta, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False):
    """Window by window."""
    shape = F.max_pool2d(x, kernel_size, stride, padding, dilation, ceil_mode).shape
    options = (kernel_size, stride or kernel_size, padding, dilation)
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = ((v, v) if isinstance(v, int) else (v[0], v[-1]) for v in options)
    result = torch.empty(shape, dtype=x.dtype)
    for i in range(shape[2]):
        for j in range(shape[3]):
            rows = [r for r in range(i * sh - ph, i * sh - ph + kh * dh, dh) if 0 <= r < x.shape[2]]
            columns = [c for c in range(j * sw - pw, j * sw - pw + kw * dw, dw) if 0 <= c < x.shape[3]]
            result[:, :, i, j] = torch.logsumexp(beta * x[:, :, rows][:, :, :, columns].flatten(2), 2) / beta
    return result


@over_geometries
@pytest.mark.parametrize("beta", [0.3, 2.0])
def test_it_is_the_log_sum_exp_of_each_window(geometry, beta):
    x = images(2, 3, 8, 10)
    torch.testing.assert_close(smooth_max_pool2d(x, **geometry, beta=beta), naive(x, beta, **geometry))


@over_geometries
def test_both_derivatives_pass_the_numerical_check(geometry):
    x = images(1, 1, 6, 6).requires_grad_()
    assert torch.autograd.gradcheck(lambda t: smooth_max_pool2d(t, **geometry, beta=2.0), x)
    assert torch.autograd.gradgradcheck(lambda t: smooth_max_pool2d(t, **geometry, beta=2.0), x)


@over_geometries
def test_the_larger_beta_the_closer_to_the_maximum(geometry):
    x = images(2, 3, 8, 10)
    above = smooth_max_pool2d(x, **geometry, beta=50.0) - F.max_pool2d(x, **geometry)
    assert above.min() >= 0
    assert above.max() <= torch.tensor(9.0).log() / 50


class Pools(nn.Module):
    def __init__(self, pool):
        super().__init__()
        self.convolution, self.pool = nn.Conv2d(3, 4, 3), pool

    def forward(self, x):
        return self.pool(torch.relu(self.convolution(x))).mean(dim=(2, 3))


POOLS = {
    "nn.MaxPool2d": nn.MaxPool2d(3, 2),
    "F.max_pool2d": lambda x: F.max_pool2d(x, 3, 2),
    "by keyword": lambda x: F.max_pool2d(input=x, kernel_size=3, stride=2),
    "torch.max_pool2d": lambda x: torch.max_pool2d(x, 3, 2),
}


@pytest.mark.parametrize("kind", POOLS)
def test_every_form_of_pool_and_relu_becomes_smooth(kind):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Pools(POOLS[kind]).double().eval().requires_grad_(False)
    x = images(2, 3, 11, 11)
    exact = model(x)
    expected = naive(F.softplus(model.convolution(x), 3.0, threshold=100), 3.0, 3, 2).mean(dim=(2, 3))
    surrogate = smooth_surrogate(model, 3.0)
    assert isinstance(surrogate, SoftplusSurrogate)
    torch.testing.assert_close(surrogate(x), expected)
    assert torch.equal(model(x), exact)
    assert {p.data_ptr() for p in surrogate.parameters()} == {p.data_ptr() for p in model.parameters()}


def test_its_gradient_does_not_jump(tiny):
    """Along a line, in steps too small for the Hessian to matter, a kink shows as a jump."""
    model = tiny.double()
    start, there = images(2, 3, 16, 16).split(1)
    line = start + torch.linspace(0, 0.3, 4001, dtype=torch.float64)[:, None, None, None] * there

    def largest_step(model):
        x = line.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(model(x)[:, 0].sum(), x)
        return gradient.diff(dim=0).flatten(1).norm(dim=1).max() / gradient[0].norm()

    assert largest_step(smooth_surrogate(model, 8.0)) < 0.01
    assert largest_step(model) > 0.05


def test_beta_is_the_models_own_unless_given(squeezenet):
    assert smooth_surrogate(squeezenet).beta == squeezenet.beta
    assert smooth_surrogate(Tiny().eval()).beta == 1
    with pytest.raises(ValueError, match="beta: expected a number above 0"):
        smooth_surrogate(Tiny().eval(), -1.0)


MAXIMA = {  # and the same values, for a window of each pixel and its neighbour
    "amax": lambda x: x.amax(-1),
    "torch.amax": lambda x: torch.amax(x, dim=4),
    "max": lambda x: x.max(-1).values,
    "torch.max by name": lambda x: torch.max(x, dim=-1, keepdim=True)[0].squeeze(-1),
    "amin": lambda x: -torch.amin(-x, -1),
    "min": lambda x: -(-x).min(-1).values,
    "two axes": lambda x: x.unflatten(4, (2, 1)).amax((-1, -2)),
}


@pytest.mark.parametrize("kind", MAXIMA)
def test_maxima_over_axes_become_the_log_sum_exp_of_their_values(kind):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Pools(lambda x: MAXIMA[kind](x.unfold(3, 2, 2))).double().eval().requires_grad_(False)
    x = images(2, 3, 8, 8)
    windows = F.softplus(model.convolution(x), 3.0, threshold=100).unfold(3, 2, 2)
    expected = (windows * 3).exp().sum(-1).log() / 3
    surrogate = smooth_surrogate(model, 3.0)
    torch.testing.assert_close(surrogate(x), expected.mean((2, 3)))
    assert (surrogate(x) - model(x)).abs().amax() > 0.05


def test_the_maximum_of_all_becomes_the_log_sum_exp_of_all_and_no_kink_is_left():
    class All(nn.Module):
        def forward(self, x):
            x = F.max_pool2d(x, 2).flatten(1)
            return x - torch.stack([image.max() + image.amax() for image in x])[:, None]

    x = images(2, 3, 8, 8)
    pooled = naive(x, 3.0, 2, 2).flatten(1)
    surrogate = smooth_surrogate(All().eval(), 3.0)
    expected = pooled - 2 * (pooled * 3).exp().sum(1, keepdim=True).log() / 3
    torch.testing.assert_close(surrogate(x), expected)
    assert kinks_left(surrogate, x) == []
    assert kinks_left(softplus_surrogate(All().eval(), 3.0), x) == ["torch.max_pool2d", "torch.max", "torch.amax"]


@pytest.mark.parametrize(
    "pool",
    [
        nn.AdaptiveMaxPool2d(2),
        nn.MaxPool2d(2, return_indices=True),
        nn.AdaptiveMaxPool1d(2),
        nn.AdaptiveMaxPool3d(2),
        nn.MaxPool1d(2),
        nn.MaxPool3d(2),
        nn.FractionalMaxPool2d(2, 2),
    ],
    ids=lambda pool: type(pool).__name__,
)
def test_pools_that_cannot_be_smoothed_are_refused(pool):
    class First(nn.Module):
        def forward(self, x):
            return pool(x.flatten(2) if "1d" in str(pool) else x)[0]

    with pytest.raises(ValueError, match=r"expected max_pool2d without indices, got .*max_pool.*has no smooth form"):
        SmoothPooling(First(), 1.0)(images(1, 3, 8, 8))


def test_axes_may_be_called_by_their_other_names():
    class Greatest(nn.Module):
        def forward(self, x):
            return x.amax(axis=(2, 3), keepdims=False)

    x = torch.rand(2, 3, 4, 4, dtype=torch.float64)
    expected = x.flatten(2).mul(4.0).logsumexp(2) / 4.0
    torch.testing.assert_close(smooth_surrogate(Greatest().eval(), 4.0)(x), expected)
