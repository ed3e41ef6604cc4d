"""The projection on the ball, against a loop over single pixels; and the sign of the slope."""

import pytest
import torch

from fragile_utils.attacks import project
from fragile_utils.attacks.base import ascent


def test_projection_is_the_nearest_point_pixel_by_pixel():
    generator = torch.Generator().manual_seed(0)
    originals = torch.rand(2, 3, 4, 4, generator=generator)
    x = originals + torch.randn(2, 3, 4, 4, generator=generator)
    found = project(x, originals, 0.1)
    for got, value, original in zip(found.flatten(), x.flatten(), originals.flatten(), strict=True):
        low, high = max(original.item() - 0.1, 0), min(original.item() + 0.1, 1)
        assert got.item() == pytest.approx(min(max(value.item(), low), high), abs=1e-6)
    assert (found - originals).abs().max() <= 0.1


def test_a_budget_below_the_resolution_of_float32_is_kept_too():
    originals = 0.1 * torch.rand(100, generator=torch.Generator().manual_seed(0))
    for direction in (-1e-8, 1e-8):
        assert (project(originals + direction, originals, 1e-8) - originals).abs().max() <= 1e-8


def test_the_ascent_is_the_sign_of_the_slope_and_zero_where_there_is_none():
    x = torch.tensor([[-2.0, 3.0], [1.0, 0.0]], requires_grad=True)
    parameter = torch.ones(2, requires_grad=True)  # of a network that is still to be trained
    assert ascent((x**2).sum(dim=1), x).tolist() == [[-1, 1], [1, 0]]
    assert ascent(3 * parameter, x).tolist() == [[0, 0], [0, 0]]  # the gradient of a linear score, compared
    assert ascent(parameter.detach(), x).tolist() == [[0, 0], [0, 0]]
