"""Small networks that bend, and what the tests of curvature ask of them; in float64."""

import math

import torch
from networks import Tiny
from torch import nn

from fragile_utils.models.smooth_pooling import smooth_surrogate
from fragile_utils.models.surrogate import softplus_surrogate

BETA = 8.0
SHAPE = (3, 16, 16)
D = math.prod(SHAPE)
TARGETS = torch.tensor([0, 3, 4])


class Smooth(nn.Module):
    """A small network that is smooth by itself."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 6, 3, stride=2), nn.Linear(6 * 7 * 7, 5)

    def forward(self, images):
        return self.last(torch.tanh(self.first(images)).flatten(1))


def build(name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = (Smooth() if name == "smooth" else Tiny()).double().eval().requires_grad_(False)
    return {"smooth": lambda m: m, "softplus": softplus_surrogate, "no kinks": smooth_surrogate}[name](
        network, *([] if name == "smooth" else [BETA])
    )


def directions(seed=2, count=3):
    return torch.randn(count, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
