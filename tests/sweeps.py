"""Small sweeps for tests, and what they name; importable from any process whose path holds this folder."""

from pathlib import Path

import pandas as pd
import torch
from networks import Tiny

from fragile_utils import data, experiments, models

COUNT = 12  # images
SMALL = {
    "models": "sweeps:network",
    "data": "sweeps:images",
    "methods": ["gradient", {"name": "integrated-gradients", "steps": 3}],
    "attacks": ["random-sign", {"name": "topk", "k": 15}],
    "budgets": [4, 16],
    "images": 7,
    "steps": 3,
    "step_size": 4,
    "k": 20,
}


def network(scale: float = 1.0) -> models.Classifier:
    """A small network in evaluation mode, the same on each call."""
    with torch.random.fork_rng():
        tiny = Tiny()
    return models.Classifier(tiny, mean=(0.5,) * 3, std=(0.25,) * 3, beta=8.0).eval()


def training_network() -> models.Classifier:
    return network().train()


def plain_network() -> torch.nn.Module:
    """One that says nothing of its surrogate."""
    with torch.random.fork_rng():
        return Tiny().eval()


def images(size: int | None, fit: str, limit: int | None) -> data.Batch:
    """Random images; those at even places are labelled wrong."""
    pixels = torch.rand(COUNT, 3, 16, 16, generator=torch.Generator().manual_seed(1)).mul(255).round() / 255
    labels = data.predict(network(), pixels)
    labels[::2] = (labels[::2] + 1) % 5
    return data.Batch(pixels, labels, names=tuple(f"{i}.png" for i in range(COUNT)))[: limit or COUNT]


def many_images(size: int | None, fit: str, limit: int | None) -> data.Batch:
    """Random images without labels."""
    pixels = torch.rand(40, 3, 16, 16, generator=torch.Generator().manual_seed(2)).mul(255).round() / 255
    return data.Batch(pixels, torch.full((40,), data.UNKNOWN), names=tuple(f"{i}.png" for i in range(40)))


def small(**changes) -> experiments.Sweep:
    return experiments.Sweep.from_dict(SMALL | {"data": "sweeps:many_images"} | changes)


def rows(folder: Path) -> pd.DataFrame:
    """Every row of a finished sweep."""
    return experiments.results(folder)[1]


def run(sweep: experiments.Sweep, folder: Path, shard_size: int) -> None:
    """What a process of its own does, to be killed."""
    torch.set_num_threads(1)
    experiments.run(sweep, folder, shard_size=shard_size)
