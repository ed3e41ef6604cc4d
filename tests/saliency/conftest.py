"""What the tests of saliency share."""

import pytest
import torch.nn.functional as F
from references import batch, cifar

from fragile_utils import models


@pytest.fixture(scope="module", params=["cifar", "squeezenet"])
def case(request, samples):
    """A model, images and targets, in float64."""
    if request.param == "cifar":
        return cifar(bgr=True), *batch(3)
    model = models.squeezenet().double()
    images = F.interpolate(samples.images[:2].double(), 67)
    return model, images, model(images).argmax(1)
