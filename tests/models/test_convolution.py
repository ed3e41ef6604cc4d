"""The convolution of a frozen network against autograd's."""

import pytest
import torch
import torch.nn.functional as F

from fragile_utils.models.convolution import convolution


@pytest.mark.parametrize(
    "options",
    [
        {"stride": 2},
        {"stride": (1, 3), "padding": (2, 0)},
        {"stride": [2], "padding": (1,), "dilation": [1]},
        {"padding": [2], "dilation": (2,)},
        {"dilation": 2, "padding": 1},
        {"groups": 2, "stride": 3},
        {"padding": "same"},
    ],
    ids=str,
)
def test_frozen_convolution_equals_autograds(options):
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (
        torch.randn(shape, dtype=torch.float64, generator=generator)
        for shape in ((2, 4, 9, 11), (6, 4 // options.get("groups", 1), 3, 3), (6,))
    )
    x.requires_grad_()
    results = []
    for apply in (convolution, F.conv2d):
        out = apply(x, weight, bias, **options)
        (first,) = torch.autograd.grad(out.pow(3).sum(), x, create_graph=True)
        results.append((out, first, torch.autograd.grad(first.pow(2).sum(), x)[0]))
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want)


COMPLEX, ONE_IMAGE = ((2, 4, 9, 11), torch.complex128), ((3, 9, 11), torch.float64)


@pytest.mark.parametrize(("shape", "dtype"), [COMPLEX, ONE_IMAGE], ids=["complex", "one image"])
@pytest.mark.parametrize(("size", "stride"), [(1, 1), (3, 1), (3, 2)])
def test_complex_numbers_and_a_single_image_are_differentiated_as_by_autograd(shape, dtype, size, stride):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, dtype=torch.float64, generator=generator, requires_grad=True)
    weight = torch.randn(5, shape[-3], size, size, dtype=dtype, generator=generator)
    results = []
    for apply in (convolution, F.conv2d):
        out = apply(x.to(dtype), weight, stride=stride).abs()
        (first,) = torch.autograd.grad(out.pow(3).sum(), x, create_graph=True)
        results.append((out, first, torch.autograd.grad(first.pow(2).sum(), x)[0]))
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want)


def test_within_autocast_it_is_autograds():
    x, weight = torch.rand(2, 3, 8, 8, requires_grad=True), torch.rand(5, 3, 3, 3)
    with torch.autocast("cpu", torch.bfloat16):
        results = [apply(x, weight) for apply in (convolution, F.conv2d)]
    assert results[0].dtype == torch.bfloat16
    torch.testing.assert_close(*(torch.autograd.grad(out.float().square().sum(), x)[0] for out in results))
