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
