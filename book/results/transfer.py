"""Compute the stored results `transfer`: images attacked on one network for CIFAR-10, and explained by the others.

    python book/results/transfer.py WORK_FOLDER [--collect]

The images are read from FRAGILE_DATA. It takes about ten minutes on one core; with --collect, the tables in WORK_FOLDER
go to the package as they are.
"""

import argparse
import json
from importlib import metadata
from pathlib import Path

import pandas as pd
import torch
from common_images import CIFAR10, cifar10

from fragile_utils import attacks, experiments, models, saliency
from fragile_utils._base.devices import pick_device, processor

RESULTS = Path(__file__).resolve().parents[2] / "fragile_utils" / "results"
SETTINGS = {"attack": "topk", "k": 100, "steps": 40, "step_size": 0.5, "budgets": [2, 8]}  # in levels
READ, IMAGES = 200, 48  # of the test images, evenly spread; of those that all networks get right


def compute(folder: Path) -> None:
    """Write a table for each budget."""
    device = pick_device("auto")
    networks = {name: models.load(name).to(device) for name in CIFAR10}
    batch = cifar10(size=None, fit="crop", limit=READ).to(device)
    rows = torch.linspace(0, len(batch) - 1, IMAGES, dtype=torch.float64).round().int().tolist()
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
        table.to_csv(folder / f"transfer_cifar10_{eps}.csv", index=False, float_format="%.5g")


def main() -> None:
    """Compute, unless told not to, and store."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path, metavar="WORK_FOLDER")
    options.add_argument("--collect", action="store_true", help="compute nothing")
    options = options.parse_args()
    if not options.collect:
        options.folder.mkdir(parents=True, exist_ok=True)
        compute(options.folder)
    table = pd.concat([pd.read_csv(options.folder / f"transfer_cifar10_{eps}.csv") for eps in SETTINGS["budgets"]])
    table.to_csv(RESULTS / "transfer.csv", index=False, float_format="%.4g", lineterminator="\n")
    about = {"about": "images attacked on one network, explained by another", "script": "book/results/transfer.py"}
    about |= {"networks": CIFAR10, "methods": ["gradient"]} | SETTINGS
    about |= {"data": "cifar10-test", "read": READ, "images": IMAGES}
    about |= {"versions": {"torch": metadata.version("torch")}, "hardware": processor()}
    (RESULTS / "transfer.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
