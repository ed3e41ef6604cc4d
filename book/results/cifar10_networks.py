"""Train the networks of `models.cifar10_net`, `cifar10_resnet` and `cifar10_vit`, and store them in the package.

    python book/results/cifar10_networks.py WORK_FOLDER [--only net resnet vit] [--root DATA]

With each come its settings and its learning curve. CIFAR-10 is read from DATA, by default FRAGILE_DATA. The first takes
about 20 minutes on one core of a processor that computes in bfloat16, the others hours; a GPU takes minutes. A training
that was interrupted goes on after its last epoch.
"""

import argparse
import shutil
from pathlib import Path

from fragile_utils.cli import main as fragile
from fragile_utils.cli.train import LOG, SETTINGS, WEIGHTS
from fragile_utils.models.pretrained import CIFAR10_NET, CIFAR10_RESNET, CIFAR10_VIT

PACKAGE = Path(__file__).resolve().parents[2] / "fragile_utils"
NETWORKS = {"net": ("small", CIFAR10_NET), "resnet": ("resnet", CIFAR10_RESNET), "vit": ("vit", CIFAR10_VIT)}


def main() -> None:
    """Train what is not trained yet, then copy."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path, metavar="WORK_FOLDER")
    options.add_argument("--only", nargs="*", choices=NETWORKS, default=list(NETWORKS))
    options.add_argument("--root", default=None)
    options = options.parse_args()
    where = [] if options.root is None else ["--root", options.root]
    for name in options.only:
        preset, file = NETWORKS[name]
        folder = options.folder / name
        if fragile(["train", "cifar10", "--preset", preset, *where, "--out", str(folder), "--json"]):
            raise SystemExit(2)
        store(folder, file)


def store(folder: Path, file: str) -> None:
    """Copy what a training wrote to the package, as `file`."""
    weights = PACKAGE / "resources" / file
    shutil.copyfile(folder / WEIGHTS, weights)
    shutil.copyfile(folder / SETTINGS, PACKAGE / "results" / f"{weights.stem}.json")
    shutil.copyfile(folder / LOG, PACKAGE / "results" / f"{weights.stem}.csv")


if __name__ == "__main__":
    main()
