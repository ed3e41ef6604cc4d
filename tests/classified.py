"""Features with classes, for the tests of heads and influences."""

import functools

import torch

from fragile_utils import influence


def examples(n=60, width=5, classes=3, seed=0):
    """Overlapping classes: features (n, D) in float64 whose scale differs between columns, and labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    centres = torch.randn(classes, width, generator=generator, dtype=torch.float64)
    features = centres[labels] + 1.5 * torch.randn(n, width, generator=generator, dtype=torch.float64)
    return features * torch.arange(1, width + 1) + 3, labels


L2 = 0.02


@functools.cache
def trained(classes=3):
    features, labels = examples(n=80, classes=classes, seed=classes)
    test = examples(n=12, classes=classes, seed=classes + 100)
    return influence.fit(features, labels, l2=L2), features, labels, test


def flat(factors):
    residuals, inputs = factors
    return (residuals[:, :, None] * inputs[:, None, :]).flatten(1)
