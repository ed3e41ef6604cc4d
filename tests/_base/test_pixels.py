"""Images in 8 bits."""

import numpy as np
import pytest
import torch

from fragile_utils._base.pixels import in_bytes


def test_every_level_comes_back():
    levels = torch.arange(256).view(1, 1, 16, 16)
    assert torch.equal(in_bytes(levels.float() / 255), levels.to(torch.uint8))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_is_the_nearest_level_as_numpy_has_it(dtype):
    x = torch.rand(2, 3, 5, 7, generator=torch.Generator().manual_seed(0), dtype=dtype)
    found = in_bytes(x)
    assert (found.dtype, found.shape) == (torch.uint8, x.shape)
    assert np.array_equal(found.numpy(), np.rint(x.numpy() * 255))


def test_what_lies_outside_is_cut_off_and_does_not_wrap_around():
    assert in_bytes(torch.tensor([-0.1, -1e-4, 1.0001, 1.1, 300.0])).tolist() == [0, 0, 255, 255, 255]
