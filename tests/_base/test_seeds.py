"""Random numbers that depend on a seed alone."""

import pytest
import torch

from fragile_utils._base.seeds import normal, random_signs, torch_seeded, uniform


def generator():
    return torch.Generator().manual_seed(3)


@pytest.fixture(params=[torch.float32, torch.float64], ids=str)
def default(request):
    """PyTorch's default type, as a reader may have set it."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(request.param)
    yield request.param
    torch.set_default_dtype(before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_numbers_of_a_seed_are_the_same_whatever_the_default_type(default, dtype):
    image, single = torch.zeros(3, 5, 4, dtype=dtype), {"dtype": torch.float32}
    signs = 2 * torch.randint(0, 2, (3, 5, 4), generator=generator(), dtype=torch.int8) - 1
    expected = 2 * torch.rand(3, 5, 4, generator=generator(), **single) - 1
    assert torch.equal(normal((3, 5, 4), 3), torch.randn(3, 5, 4, generator=generator(), **single))
    assert torch.equal(uniform(image, 3), expected.to(dtype))
    assert torch.equal(random_signs(image, 3), signs.to(dtype))


def test_what_pytorch_draws_by_itself_is_that_of_the_seed_and_changes_nothing():
    before = torch.get_rng_state()
    with torch_seeded(3):
        drawn = torch.rand(4)
    assert torch.equal(drawn, torch.rand(4, generator=generator()))
    assert torch.equal(torch.get_rng_state(), before)
