"""``fragile info``: what is installed, on which device, with which data."""

import argparse
import json
import os
from collections.abc import Callable

import torch

from fragile_utils import data, models
from fragile_utils._base.devices import hardware, pick_device, versions


def add_parser(commands) -> None:
    """Add this command to the sub-parsers `commands`."""
    parser = commands.add_parser("info", help="say what is installed, on which device, with which data")
    parser.set_defaults(command=run)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> int:
    """Print what is installed, on which device, and which data are at hand."""
    facts = gather()
    if options.json:
        print(json.dumps(facts))
    else:
        width = max(map(len, facts))
        for name, value in facts.items():
            print(f"{name:<{width}}  {value}")
    return 0


def gather() -> dict[str, str]:
    """Return the facts that a report of a problem should contain."""
    device = pick_device("auto")
    facts = versions("torch", "torchvision", "captum", "numpy")
    facts |= {"device": f"{device} ({hardware(device)})", "threads": str(torch.get_num_threads())}
    facts["busy"] = describe_load()
    for sample, load in data.SAMPLES.items():
        facts[sample] = attempt(lambda load=load: f"{len(load())} images")
    for name in (name for name in models.MODELS if name != "squeezenet-torchvision"):  # which would be downloaded
        facts[name] = attempt(lambda name=name: describe(models.load(name)))
    facts["FRAGILE_DATA"] = attempt(describe_root)
    return facts


def describe(model: models.Classifier) -> str:
    """Return how large a network is."""
    return f"{sum(p.numel() for p in model.parameters()):,} parameters, {model.size} x {model.size} pixels"


def describe_load() -> str:
    """Return how much else computes on this machine, and what OpenMP's threads do while they wait."""
    cores, settings = os.cpu_count() or 1, ("OMP_NUM_THREADS", "GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    load = f"{os.getloadavg()[0]:.1f} processes want {cores} cores" if hasattr(os, "getloadavg") else f"{cores} cores"
    return "; ".join([load, *(f"{name}={os.environ[name]}" for name in settings if name in os.environ)])


def describe_root() -> str:
    """Return the folder of larger data and what is in it."""
    root = data.data_root()
    return f"{root} ({', '.join(sorted(path.name for path in root.iterdir()))})"


def attempt(action: Callable[[], str]) -> str:
    """Return what `action` says, or why it cannot."""
    try:
        return action()
    except (ValueError, OSError) as error:
        return f"missing: {error}"
