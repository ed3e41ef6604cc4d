"""Small sweeps for tests, and what they name; importable from any process whose path holds this folder."""

import dataclasses
import functools
import itertools
import os
import resource
import signal
from pathlib import Path

import pandas as pd
import torch
from networks import Tiny

from fragile_utils import data, experiments, models
from fragile_utils._base.code import Code

COUNT = 12  # images
CELL = ["model", "data", "method", "attack", "eps"]
PYTHONPATH = os.pathsep.join(map(str, Path(__file__).resolve().parents[:2]))  # what a new process needs
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


def images_of_ten_classes(size: int | None, fit: str, limit: int | None) -> data.Batch:
    """The same images as of a data set with more classes than the network has."""
    return dataclasses.replace(images(size, fit, limit), classes=tuple("abcdefghij"))


def many_images(size: int | None, fit: str, limit: int | None) -> data.Batch:
    """Random images without labels."""
    pixels = torch.rand(40, 3, 16, 16, generator=torch.Generator().manual_seed(2)).mul(255).round() / 255
    return data.Batch(pixels, torch.full((40,), data.UNKNOWN), names=tuple(f"{i}.png" for i in range(40)))


run = functools.partial(experiments.run, allow_code=True)  # of functions of this module


def parts(sweep: experiments.Sweep) -> experiments.Parts:
    """Return a sweep that may call what it names."""
    return experiments.Parts(sweep, Code.allow(sweep.functions))


def small(**changes) -> experiments.Sweep:
    return experiments.Sweep.from_dict(SMALL | {"data": "sweeps:many_images"} | changes)


def same(a: pd.DataFrame, b: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(a, b, check_exact=True)


def files(folder: Path) -> list[Path]:
    return sorted((folder / "shards").iterdir())


def rows(folder: Path) -> pd.DataFrame:
    """Every row of a finished sweep."""
    return experiments.results(folder)[1]


# --- What processes of their own do ----------------------------------------------------------------------------------


def run_alone(sweep: experiments.Sweep, folder: Path, shard_size: int) -> None:
    """Run a sweep, to be killed."""
    torch.set_num_threads(1)
    run(sweep, folder, shard_size=shard_size)


def run_and_die_while_writing(sweep: experiments.Sweep, folder: Path, shard_size: int) -> None:
    """Run a sweep, and be killed when the fifth shard is written but not yet in its place."""
    replace, count = Path.replace, itertools.count(-1)  # the settings are written first

    def die(path: Path, target: Path) -> None:
        if next(count) == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(path, target)

    Path.replace = die
    run_alone(sweep, folder, shard_size)


def run_on_a_small_disk(sweep: experiments.Sweep, folder: Path, said: Path) -> None:
    """Go on with a sweep where files cannot grow beyond 2 kB, and note what it says."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
    torch.set_num_threads(1)
    try:
        run(sweep, folder)
    except ValueError as error:
        said.write_text(str(error))
