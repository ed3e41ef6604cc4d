"""Compute the stored results `transfer`: images attacked on one network for CIFAR-10, and explained by the others.

    python book/results/transfer.py WORK_FOLDER [--collect]

The images are read from FRAGILE_DATA. It takes about ten minutes on one core; with --collect, the tables in WORK_FOLDER
go to the package as they are.
"""

from importlib import metadata
from pathlib import Path

import pandas as pd
from _common import arguments, evenly, store, write
from common_images import CIFAR10, cifar10

from fragile_utils import attacks, experiments, models, saliency
from fragile_utils._base.devices import pick_device, processor

SETTINGS = {"attack": "topk", "k": 100, "steps": 40, "step_size": 0.5, "budgets": [2, 8]}  # in levels
READ, IMAGES = 200, 48  # of the test images, evenly spread; of those that all networks get right


def compute(folder: Path) -> None:
    """Write a table for each budget."""
    device = pick_device("auto")
    networks = {name: models.load(name).to(device) for name in CIFAR10}
    batch = cifar10(size=None, fit="crop", limit=READ).to(device)
    rows = evenly(len(batch), IMAGES)
    for eps in SETTINGS["budgets"]:
        table = experiments.transfer(
            networks,
            {"gradient": saliency.Gradient()},
            batch[rows],
            attack=attacks.TopK(SETTINGS["k"]),
            eps=eps * attacks.LEVEL,
            k=SETTINGS["k"],
            steps=SETTINGS["steps"],
            step_size=SETTINGS["step_size"] * attacks.LEVEL,
            batch_size=IMAGES,
        )
        write(folder / f"transfer_cifar10_{eps}.csv", table, digits=5)


def main() -> None:
    """Compute, unless told not to, and store."""
    options = arguments(__doc__)
    options.add_argument("--collect", action="store_true", help="compute nothing")
    options = options.parse_args()
    if not options.collect:
        options.folder.mkdir(parents=True, exist_ok=True)
        compute(options.folder)
    table = pd.concat([pd.read_csv(options.folder / f"transfer_cifar10_{eps}.csv") for eps in SETTINGS["budgets"]])
    about = {"about": "images attacked on one network, explained by another", "script": "book/results/transfer.py"}
    about |= {"networks": CIFAR10, "methods": ["gradient"]} | SETTINGS
    about |= {"data": "cifar10-test", "read": READ, "images": IMAGES}
    about |= {"versions": {"torch": metadata.version("torch")}, "hardware": processor()}
    store("transfer", table, about)


if __name__ == "__main__":
    main()
