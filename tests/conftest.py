"""What the tests share: networks and images."""

import pytest
import torch
from networks import Tiny

from fragile_utils import data, models
from fragile_utils.__main__ import main


@pytest.fixture
def tiny() -> Tiny:
    with torch.random.fork_rng():
        return Tiny().eval().requires_grad_(False)


@pytest.fixture
def tiny_batch(tiny: Tiny) -> tuple[torch.Tensor, torch.Tensor]:
    """Six images, and the classes that the tiny network predicts on them."""
    images = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    return images, data.predict(tiny, images)


@pytest.fixture(scope="session")
def squeezenet() -> models.Classifier:
    return models.squeezenet()


@pytest.fixture(scope="session")
def samples() -> data.Batch:
    return data.imagenet_samples()


@pytest.fixture(scope="session")
def correct(samples: data.Batch, squeezenet: models.Classifier) -> data.Batch:
    """The 12 embedded ImageNet images that SqueezeNet gets right."""
    return samples.correct(squeezenet)


@pytest.fixture
def fragile(capsys, monkeypatch):
    """Run `fragile ...` and return the exit status, what it printed and what it complained about."""
    monkeypatch.delenv("FRAGILE_DATA", raising=False)

    def run(*arguments):
        status = main([str(argument) for argument in arguments])
        return status, *capsys.readouterr()

    return run
