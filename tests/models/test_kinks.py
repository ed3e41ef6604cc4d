"""What keeps its kinks is named, whatever it is called; what is smooth is not."""

import pytest
import torch
import torch.nn.functional as F
from networks import Called
from torch import nn

from fragile_utils import curvature
from fragile_utils.models.kinks import kinks_left
from fragile_utils.models.surrogate import softplus_surrogate


def network(function):
    """A convolution, and a function of what it gives."""
    return nn.Sequential(nn.Conv2d(3, 4, 3), Called(function), nn.Flatten()).eval().double().requires_grad_(False)


@pytest.fixture
def images():
    return torch.rand(3, 3, 12, 13, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


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
    model = network(function)
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
    "a number in range that stops some": (lambda x: x.clamp(min=0.01), ["torch.clamp"]),
    "clamp_max": (lambda x: x.clamp_max(-0.01), ["torch.clamp"]),
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
    model = network(function)
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
    "numbers in range": lambda x: x.clamp(min=-9).clamp(max=9.0).clamp(-torch.inf, 9.0).clamp(-torch.inf, torch.inf),
    "a mask": lambda x: x.masked_fill(torch.ones(x.shape[2:], dtype=torch.bool).tril(), 0),
    "all that is replaced": lambda x: F.relu(x) + F.relu6(x) + x.abs() + F.hardswish(x) + F.selu(x) + x.clamp(-1, 1),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_what_is_smooth_is_not_named(name, images):
    model = network(SMOOTH[name])
    assert kinks_left(softplus_surrogate(model, 3.0), images) == []


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
