"""Networks composed at random: products with the Hessian are those of autograd in float64, or they are refused."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrizations

from fragile_utils.models import softplus_surrogate
from fragile_utils.saliency.propagation import passes
from fragile_utils.saliency.propagation.steps import Untraceable

CHANNELS, SIZE = 4, 6


class Attend(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(CHANNELS, 2, batch_first=True)

    def forward(self, x):
        tokens = x.flatten(2).transpose(1, 2)
        mixed, _ = self.attention(tokens, tokens, tokens)
        return mixed.transpose(1, 2).reshape(x.shape)


class Beside(nn.Module):
    """A constant channel beside the others, and a convolution back to as many as before."""

    def __init__(self):
        super().__init__()
        self.register_buffer("constant", torch.rand(1, 1, SIZE, SIZE))
        self.back = nn.Conv2d(CHANNELS + 1, CHANNELS, 1)

    def forward(self, x):
        return self.back(torch.cat([x, self.constant.expand(len(x), -1, -1, -1)], 1))


class Gate(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(CHANNELS, CHANNELS)

    def forward(self, x):
        return x * self.layer(x.mean((2, 3))).sigmoid()[:, :, None, None]


def without_gradient(x):
    with torch.no_grad():
        other = x.cos()
    return x.tanh() + x * other


MODULES = [
    lambda: nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1),
    lambda: nn.Conv2d(CHANNELS, CHANNELS, 3, padding="same", groups=2, bias=False),
    lambda: nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, padding_mode="circular"),
    lambda: parametrizations.weight_norm(nn.Conv2d(CHANNELS, CHANNELS, 1)),
    lambda: nn.ConvTranspose2d(CHANNELS, CHANNELS, 3, padding=1),
    lambda: nn.Linear(SIZE, SIZE),
    lambda: nn.BatchNorm2d(CHANNELS),
    lambda: nn.LayerNorm((CHANNELS, SIZE, SIZE)),
    lambda: nn.GroupNorm(2, CHANNELS),
    lambda: nn.InstanceNorm2d(CHANNELS),
    lambda: nn.MaxPool2d(3, 1, 1),
    lambda: nn.AvgPool2d(3, 1, 1),
    *(nn.ReLU, nn.PReLU, nn.GELU, nn.SiLU, nn.ELU, nn.SELU, nn.Hardswish, nn.Hardsigmoid, nn.Softshrink, nn.Tanh),
    *(lambda: nn.ReLU(inplace=True), lambda: nn.LeakyReLU(0.1), nn.Dropout, Attend, Beside, Gate),
]
FUNCTIONS = [
    *(torch.sin, torch.abs, torch.sigmoid, lambda x: x.clamp(min=0), lambda x: x.clamp(-1, 1), lambda x: x**2),
    *(lambda x: x * 1.5 - 0.2, lambda x: (1 - x) / 2, lambda x: x * x.flip(2), lambda x: x + x.roll(1, 3).tanh()),
    *(lambda x: x.softmax(1), lambda x: torch.maximum(x, x.flip(3)), lambda x: torch.where(x > 0.1, x, 0.5 * x)),
    *(lambda x: torch.cat(x.chunk(2, 1)[::-1], 1), lambda x: torch.cat([p.sin() for p in x.split(1, 1)], 1)),
    *(lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect")[:, :, 1:-1, 1:-1], lambda x: x - x.detach().mean()),
    *(lambda x: F.avg_pool2d(F.interpolate(x, scale_factor=2, mode="bilinear"), 2), without_gradient),
    *(lambda x: torch.einsum("nchw,nchv->ncwv", x, x) / SIZE, lambda x: x.mul_(0.7).add_(0.1), lambda x: x.mT),
    *(lambda x: x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2), lambda x: x.view(len(x), -1).view_as(x)),
]
STEPS = [*MODULES, *FUNCTIONS]


class Composed(nn.Module):
    """Steps in sequence; with `residual`, what came in before is added after some."""

    def __init__(self, steps, residual):
        super().__init__()
        made = [STEPS[i]() if i < len(MODULES) else STEPS[i] for i in steps]
        self.layers = nn.ModuleList(step for step in made if isinstance(step, nn.Module))
        self.first, self.last = nn.Conv2d(3, CHANNELS, 1), nn.Linear(CHANNELS * SIZE * SIZE, 3)
        self.made, self.residual = made, residual

    def forward(self, images):
        x = self.first(images)
        for step in self.made:
            x = x + step(x) if self.residual and step not in FUNCTIONS[-6:] else step(x)
        return self.last(x.flatten(1))


def check(steps, residual, seed, channels_last):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Composed(steps, residual).double().eval().requires_grad_(False)
        images, vectors = torch.rand(2, 2, 3, SIZE, SIZE, dtype=torch.float64)
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    surrogate, targets = softplus_surrogate(model, 3.0), torch.tensor([0, 2])
    x = images.clone().requires_grad_()
    try:
        (gradient,) = torch.autograd.grad(surrogate(x).gather(1, targets[:, None]).sum(), x, create_graph=True)
    except RuntimeError:  # PyTorch itself does not take it: a view of another layout, in place on what it needs
        return "invalid"
    product = torch.zeros_like(x)
    if gradient.requires_grad:
        (product,) = torch.autograd.grad(gradient, x, vectors, materialize_grads=True)
    try:
        made = passes.Pass(surrogate, images, targets)
        ours = made.multipliers, made.product(vectors)
    except Untraceable:
        return "refused"
    for got, wanted in zip(ours, (gradient.detach(), product), strict=True):
        assert (got - wanted).norm() <= 1e-6 * wanted.norm() + 1e-12, (steps, residual, seed)
    return "exact"


CASES = {
    "steps": st.lists(st.integers(0, len(STEPS) - 1), min_size=1, max_size=6),
    "residual": st.booleans(),
    "seed": st.integers(0, 2**31),
    "channels_last": st.booleans(),
}


def run(examples):
    counts = {"exact": 0, "refused": 0, "invalid": 0}

    @settings(max_examples=examples, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(**CASES)
    def each(**case):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            counts[check(**case)] += 1

    each()
    return counts


def test_a_composed_network_is_exact_or_refused():
    counts = run(80)
    assert counts["exact"] >= 0.8 * sum(counts.values())


@pytest.mark.slow
def test_two_thousand_composed_networks_are_exact_or_refused():
    counts = run(2000)
    assert counts["exact"] >= 0.8 * sum(counts.values())


@pytest.mark.parametrize("step", range(len(STEPS)))
def test_each_step_alone_is_exact(step):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        assert check([step], False, 0, False) == "exact"
