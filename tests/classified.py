"""Features with classes, for the tests of heads and influences."""

import torch


def examples(n=60, width=5, classes=3, seed=0):
    """Overlapping classes: features (n, D) in float64 whose scale differs between columns, and labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    centres = torch.randn(classes, width, generator=generator, dtype=torch.float64)
    features = centres[labels] + 1.5 * torch.randn(n, width, generator=generator, dtype=torch.float64)
    return features * torch.arange(1, width + 1) + 3, labels
