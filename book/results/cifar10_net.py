"""Train the network of `models.cifar10_net`, and store it in the package with settings and learning curve.

    python book/results/cifar10_net.py WORK_FOLDER [--root DATA]

CIFAR-10 is read from DATA, by default FRAGILE_DATA. It takes about 20 minutes on one core of a processor that computes
in bfloat16. A training that was interrupted goes on after its last epoch.
"""

import argparse
import shutil
from pathlib import Path

from fragile_utils.cli import main as fragile
from fragile_utils.cli.train import LOG, SETTINGS, WEIGHTS
from fragile_utils.models.pretrained import CIFAR10_NET

PACKAGE = Path(__file__).resolve().parents[2] / "fragile_utils"


def main() -> None:
    """Train what is not trained yet, then copy."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path, metavar="WORK_FOLDER")
    options.add_argument("--root", default=None)
    options = options.parse_args()
    where = [] if options.root is None else ["--root", options.root]
    if fragile(["train", "cifar10", *where, "--out", str(options.folder), "--json"]):
        raise SystemExit(2)
    weights = PACKAGE / "resources" / CIFAR10_NET
    shutil.copyfile(options.folder / WEIGHTS, weights)
    shutil.copyfile(options.folder / SETTINGS, PACKAGE / "results" / f"{weights.stem}.json")
    shutil.copyfile(options.folder / LOG, PACKAGE / "results" / f"{weights.stem}.csv")


if __name__ == "__main__":
    main()
