"""The projection on the ball, against a loop over single pixels."""

import pytest
import torch

from fragile_utils.attacks import project


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
