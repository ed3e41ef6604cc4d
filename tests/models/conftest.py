"""What the tests of models share."""

import pytest
import torch

from fragile_utils import data


@pytest.fixture(scope="module")
def noise():
    """32 images of noise with a class each: nothing to learn but the images themselves."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (32, 3, 32, 32), generator=generator) / 255
    return data.Batch(images, torch.arange(32) % 10)
