"""Compute the stored results `transfer`: images attacked on one network, and explained by the others.

    python book/results/transfer.py WORK_FOLDER [--of cifar10 imagenet] [--device DEVICE] [--collect]

The images are read from FRAGILE_DATA: those of CIFAR-10, and of ImageNet those that `common_images.py` copied to
FRAGILE_DATA/imagenet_common. On one core it takes about ten minutes for CIFAR-10, and an hour for ImageNet. What is
done is skipped when the script is started again; with --collect, the tables in WORK_FOLDER go to the package as they
are.
"""

import json
from pathlib import Path

import pandas as pd
import torch
from _common import arguments, evenly, store, write
from common_images import CIFAR10, cifar10

from fragile_utils import attacks, data, experiments, models, saliency
from fragile_utils._base.devices import environment, pick_device
from fragile_utils.data import Batch

SHARED = {"attack": "topk", "step_size": 0.5, "budgets": [2, 8]}  # in levels
METHODS = {"gradient": saliency.Gradient(), "deeplift": saliency.DeepLift()}
# Of the images, "read" are read, evenly spread; of those that all networks get right, "images" are used.
SETTINGS = {
    "cifar10": SHARED
    | {
        "networks": CIFAR10,
        "methods": ["gradient"],
        "k": 100,
        "steps": 40,
        "data": "cifar10-test",
        "read": 200,
        "images": 48,
    },
    "imagenet": SHARED
    | {
        "networks": ["squeezenet", "efficientnet-lite0"],
        "methods": ["gradient", "deeplift"],
        "k": 1000,
        "steps": 60,
        "data": "imagenet_common",
        "size": 224,
        "read": 64,
        "images": 24,
    },
}


def images_of(name: str, networks: dict[str, torch.nn.Module], device: torch.device) -> Batch:
    """Return the images that all networks get right."""
    settings = SETTINGS[name]
    if name == "cifar10":
        batch = cifar10(size=None, fit="crop", limit=settings["read"]).to(device)
    else:
        batch = data.imagenet_folder(data.data_root() / settings["data"], size=settings["size"]).to(device)
        for model in networks.values():
            batch = batch.correct(model)
    return batch[evenly(len(batch), settings["images"])]


def compute(folder: Path, name: str, device: torch.device) -> None:
    """Write a table for each budget, and the environment."""
    settings = SETTINGS[name]
    networks = {network: models.load(network).to(device) for network in settings["networks"]}
    batch = images_of(name, networks, device)
    for eps in settings["budgets"]:
        path = folder / f"transfer_{name}_{eps}.csv"
        if path.exists():
            continue
        table = experiments.transfer(
            networks,
            {method: METHODS[method] for method in settings["methods"]},
            batch,
            attack=attacks.TopK(settings["k"]),
            eps=eps * attacks.LEVEL,
            k=settings["k"],
            steps=settings["steps"],
            step_size=settings["step_size"] * attacks.LEVEL,
            batch_size=len(batch),
        )
        write(path, table, {"images": len(batch), **environment(device, "torchvision")}, digits=5)


def main() -> None:
    """Compute, unless told not to, and store."""
    options = arguments(__doc__)
    options.add_argument("--of", nargs="*", choices=SETTINGS, default=list(SETTINGS))
    options.add_argument("--device", default="auto")
    options.add_argument("--collect", action="store_true", help="compute nothing")
    options = options.parse_args()
    for name in options.of:
        if not options.collect:
            options.folder.mkdir(parents=True, exist_ok=True)
            compute(options.folder, name, pick_device(options.device))
        paths = [options.folder / f"transfer_{name}_{eps}.csv" for eps in SETTINGS[name]["budgets"]]
        table = pd.concat([pd.read_csv(path) for path in paths])
        known = json.loads(paths[0].with_suffix(".json").read_text(encoding="utf-8"))
        about = {"about": "images attacked on one network, explained by another", "script": "book/results/transfer.py"}
        about |= SETTINGS[name] | known
        store("transfer" if name == "cifar10" else f"transfer_{name}", table, about)


if __name__ == "__main__":
    main()
