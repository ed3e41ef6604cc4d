"""What the tests of curvature share."""

import pytest
import torch
import torch.nn.functional as F
from bends import BETA, SHAPE, TARGETS, D, build


@pytest.fixture(params=["smooth", "softplus", "no kinks"])
def model(request):
    return build(request.param)


@pytest.fixture
def images():
    return torch.rand(3, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="session")
def matrices():
    """The full Hessians (N, D, D) of the softplus surrogate, by torch.func, of the network written out."""
    tiny = build("softplus").model

    def score(x, target):
        x = F.softplus(tiny.first(2 * x[None] - 1), BETA, threshold=100)
        x = F.max_pool2d(F.softplus(tiny.second(x), BETA, threshold=100), 2)
        return tiny.last(x.flatten(1))[0, target]

    images = torch.rand(3, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = [torch.func.hessian(score)(x, target) for x, target in zip(images, TARGETS.tolist(), strict=True)]
    return torch.stack(found).reshape(3, D, D)
