"""Convolutions and products by oneDNN: the numbers of PyTorch, and only where nobody looks at how they are made."""

import pytest
import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from fragile_utils._base import onednn

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN")


@pytest.fixture
def calls(monkeypatch):
    """The convolutions that oneDNN was asked for."""
    found, its_own = [], torch.mkldnn_convolution
    monkeypatch.setattr(torch, "mkldnn_convolution", lambda *given: found.append(given) or its_own(*given))
    return found


def drawn(*shape, last=False):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return x.contiguous(memory_format=torch.channels_last) if last else x


def near(found, expected):
    return (found - expected).abs().max() <= 1e-6 * expected.abs().max()


@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": 2, "padding": 1},
        {"stride": (2, 1), "padding": (0, 2), "dilation": (1, 2)},
        {"padding": [1, 1], "dilation": 3},
    ],
    ids=str,
)
def test_a_convolution_has_the_numbers_of_double_precision(options, last, calls):
    x, weight, bias = drawn(3, 5, 13, 14, last=last), drawn(7, 5, 3, 3, last=last), drawn(7)
    found = onednn.convolve(x, weight, bias, **options)
    assert near(found, torch.conv2d(x.double(), weight.double(), bias.double(), **options))
    assert len(calls) == 1


def test_a_product_has_the_numbers_of_double_precision(calls):
    x, weight, bias = drawn(4, 50, 6), drawn(6, 9).t(), drawn(9)
    for given in (x, x.transpose(0, 1), drawn(6, 200).t(), drawn(400, 12)[:, ::2]):
        assert near(onednn.multiply(given, weight, bias), F.linear(given.double(), weight.double(), bias.double()))
    assert len(calls) == 4


def test_pixels_have_the_numbers_of_double_precision_and_stay_as_they_lie(calls):
    x, weight = drawn(2, 6, 9, 10, last=True), drawn(8, 6)
    found = onednn.multiply_pixels(x, weight)
    assert near(found, torch.conv2d(x.double(), weight.double()[:, :, None, None]))
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert len(calls) == 1


CASES = {
    "few": lambda: (drawn(onednn.FEW - 1, 4), drawn(3, 4)),
    "none": lambda: (drawn(0, 4), drawn(3, 4)),
    "double": lambda: (drawn(200, 4).double(), drawn(3, 4).double()),
    "differentiable": lambda: (drawn(200, 4).requires_grad_(), drawn(3, 4)),
    "differentiable weights": lambda: (drawn(200, 4), torch.nn.Parameter(drawn(3, 4))),
    "no numbers": lambda: (drawn(200, 4).to("meta"), drawn(3, 4).to("meta")),
}


@pytest.mark.parametrize("case", CASES)
def test_what_it_does_not_serve_is_left_to_pytorch(case, calls):
    x, weight = CASES[case]()
    found = onednn.multiply(x, weight)
    pixels = onednn.multiply_pixels(x.t()[None, :, :, None].contiguous(memory_format=torch.channels_last), weight)
    assert not calls
    assert found.requires_grad == pixels.requires_grad == ("differentiable" in case)
    assert pixels.shape == (1, 3, len(x), 1)
    if not found.is_meta:
        assert torch.allclose(pixels[0, :, :, 0].t(), F.linear(x, weight), atol=1e-6)
        assert torch.equal(found, F.linear(x, weight))


def test_groups_and_padding_by_name_are_left_to_pytorch(calls):
    x = drawn(2, 4, 12, 12)
    assert torch.equal(onednn.convolve(x, drawn(4, 1, 3, 3), groups=4), torch.conv2d(x, drawn(4, 1, 3, 3), groups=4))
    weight = drawn(4, 4, 3, 3)
    assert torch.equal(onednn.convolve(x, weight, padding="same"), torch.conv2d(x, weight, padding="same"))
    assert not calls


class Heard(TorchFunctionMode):
    """Who is told of each function that is called."""

    def __init__(self):
        super().__init__()
        self.functions = []

    def __torch_function__(self, function, types, given=(), options=None):
        self.functions.append(function)
        return function(*given, **(options or {}))


@pytest.mark.filterwarnings("ignore:.torch.jit", "ignore:TF32 acceleration")
def test_who_counts_or_transforms_finds_what_pytorch_does(calls):
    x, weight = drawn(200, 4), drawn(3, 4)
    with FlopCounterMode(display=False) as counter:
        onednn.multiply(x, weight)
    assert counter.get_total_flops() == 2 * 200 * 4 * 3
    with Heard() as heard:
        onednn.multiply(x, weight)
    assert F.linear in heard.functions
    _, tangent = torch.func.jvp(lambda x: onednn.multiply(x, weight), (x,), (x,))
    assert torch.allclose(tangent, F.linear(x, weight))
    stacked = torch.func.vmap(lambda x: onednn.multiply(x, weight))(torch.stack([x, x]))
    assert torch.allclose(stacked[1], F.linear(x, weight))
    with torch.autocast("cpu", torch.bfloat16):
        assert onednn.multiply(x, weight).dtype == torch.bfloat16
    with torch.backends.mkldnn.flags(enabled=False):
        onednn.multiply(x, weight)
    assert not calls
