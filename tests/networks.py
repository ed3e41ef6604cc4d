"""Small networks for tests."""

import torch
from torch import nn


class Tiny(nn.Module):
    """A small ReLU network on images (N, 3, 16, 16), random but for its seed, with 5 classes."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.first = nn.Conv2d(3, 6, 3, stride=2)
        self.second = nn.Conv2d(6, 8, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.last = nn.Linear(8 * 3 * 3, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(images * 2 - 1))
        x = self.pool(torch.relu(self.second(x)))
        return self.last(x.flatten(1))


class Called(nn.Module):
    """A module that computes a function."""

    def __init__(self, function):
        super().__init__()
        self.forward = function


def network(layout, batch_norm, seed=0):
    """A network for CIFAR-10 of this layout, random but for its seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        built = layout.build(batch_norm)
        for layer in built.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):  # as after training, in no respect the identity
                for value in (layer.weight, layer.running_var):
                    torch.nn.init.uniform_(value, 0.5, 2)
                for value in (layer.bias, layer.running_mean):
                    torch.nn.init.normal_(value)
    return built.eval()
