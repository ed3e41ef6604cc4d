"""Laboratories for tests: folders as `fragile_utils.laboratory` writes them, with few methods and photographs."""

import os
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from fragile_utils import data, laboratory, models, saliency

METHODS = {"gradient": saliency.Gradient(), "deeplift": saliency.DeepLift()}
OTHERS = {"deep-taylor": saliency.DeepTaylor(), "integrated-gradients": saliency.IntegratedGradients(5)}
SMALLER = {("squeezenet", "integrated-gradients"): 128}  # pixels, as in the book's laboratory


def small(*methods: str, examples: int = 4) -> laboratory.Network:
    """The CIFAR-10 network, whose steps take milliseconds."""
    batch = data.cifar10_samples()
    return _network("cifar10", "small network (CIFAR-10)", models.cifar10_net(), batch, methods, examples)


def large(*methods: str, examples: int = 3) -> laboratory.Network:
    """SqueezeNet, with the folding chairs first."""
    batch = data.imagenet_samples()[1:]
    return _network("squeezenet", "SqueezeNet 1.1 (ImageNet)", models.squeezenet(), batch, methods, examples)


def once(name: str, write: Callable[[Path], object], factory) -> Path:
    """A folder that is written once for all tests, in whichever process they run."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "written" / name
    folder.parent.mkdir(exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if not folder.is_dir():
            write(folder)
    return folder


def folder_of(network: laboratory.Network, factory) -> Path:
    """The laboratory of a network."""
    name = "-".join([network.name, *(method.name for method in network.methods)])
    return once(name, lambda folder: laboratory.write(folder, [network]), factory)


def _network(name, title, model, batch, methods, examples):
    made = METHODS | OTHERS
    explanations = [laboratory.Explanation(one, one, made[one], SMALLER.get((name, one))) for one in methods]
    return laboratory.Network(name, title, model, explanations, batch.correct(model)[:examples])
