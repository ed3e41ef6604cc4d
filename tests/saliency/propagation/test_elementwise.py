"""Activations as the walks compute them: values and derivatives to the last digits."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fragile_utils.models.surrogate import softplus_surrogate
from fragile_utils.saliency.propagation import programs
from fragile_utils.saliency.propagation.elementwise import Clipped


class Clip(nn.Module):
    """A clip alone, of the values that are given to it."""

    def __init__(self, low, high):
        super().__init__()
        self.low, self.high = low, high

    def forward(self, x):
        return F.hardtanh(x, self.low, self.high).flatten(1)


def clipped(z, low, high, beta):
    """Return value, and first and second derivative, as the operation has them."""
    surrogate = softplus_surrogate(Clip(low, high).eval(), beta)
    (operation,) = (o for o in programs.program_of(surrogate, z).operations if isinstance(o, Clipped))
    value, kept = operation.forward([z])
    return value, operation.slope(kept), operation.curvature(torch.ones_like(z), kept)


def exact(z, low, high, beta):
    """Return the same by closed forms, in float64, without differences of numbers that are nearly equal."""
    z = z.double()
    a, b = beta * (z - low), beta * (high - z)
    value = torch.where(
        a < b, low + (F.softplus(a) - F.softplus(-b)) / beta, high + (F.softplus(-a) - F.softplus(b)) / beta
    )
    slope = torch.sigmoid(a) * torch.sigmoid(b) * -math.expm1(-beta * (high - low))
    return value, slope, beta * slope * (torch.sigmoid(b) - torch.sigmoid(a))


@pytest.mark.parametrize("beta", [0.25, 1.0, 16.0])
@pytest.mark.parametrize(("low", "high"), [(0.0, 6.0), (-0.25, 0.5), (-300.0, 2.0), (-65504.0, 65504.0)])
def test_a_smoothed_clip_is_accurate_on_both_sides(low, high, beta):
    at = torch.cat([torch.linspace(-17, 17, 101) / beta + end for end in (low, high)])
    z = at.view(1, 1, 1, -1).expand(1, 3, 2, -1).contiguous()
    value, slope, curvature = clipped(z, low, high, beta)
    wanted = exact(z, low, high, beta)
    assert ((low <= value) & (value <= high)).all()
    torch.testing.assert_close(value.double(), wanted[0], rtol=2e-7, atol=4e-6 / beta)
    # A derivative has the digits that the argument has: z - low is rounded as z is.
    rounding = 1e-5 + 2 * beta * torch.finfo(z.dtype).eps * max(abs(low), abs(high))
    torch.testing.assert_close(slope.double(), wanted[1], rtol=rounding, atol=0)
    torch.testing.assert_close(
        curvature.double(), wanted[2], rtol=rounding, atol=rounding * wanted[2].abs().max().item()
    )


@pytest.mark.parametrize("beta", [0.25, 1.0, 16.0])
def test_far_from_its_bounds_a_clip_is_what_it_was(beta):
    z = torch.tensor([-1e30, -50 / beta, 3.0 + 150 / beta, 1e30]).view(1, 1, 1, 4).expand(1, 3, 2, 4).contiguous()
    value, slope, curvature = clipped(z, 0.0, 3.0 + 100 / beta, beta)
    torch.testing.assert_close(value, z.clamp(0.0, 3.0 + 100 / beta), rtol=1e-6, atol=3e-6 / beta)
    assert not torch.cat([slope, curvature]).any()
