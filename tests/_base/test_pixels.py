"""Images in 8 bits."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from fragile_utils._base.pixels import data_url, encoded, in_bytes, picture


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


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_a_picture_without_loss_has_the_levels_of_the_image(dtype):
    levels = torch.arange(3 * 4 * 5).view(3, 4, 5) * 4
    image = (levels / 255).to(dtype).requires_grad_()
    url = data_url(encoded(picture(image), "png", optimize=True), "png")
    assert url.startswith("data:image/png;base64,")
    read = np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))
    assert np.array_equal(read, levels.permute(1, 2, 0).numpy())
