"""Train the networks of `models.cifar10_net`, and store them in the package with settings and learning curve.

    python book/results/cifar10_net.py WORK_FOLDER [--only relu] [--root DATA]

CIFAR-10 is read from DATA, by default FRAGILE_DATA. Each network takes about 25 minutes on one core of a processor that
computes in bfloat16. A network that is complete in WORK_FOLDER is not trained again, and one that was interrupted goes
on after its last epoch.
"""

import argparse
import shutil
from pathlib import Path

from fragile_utils.__main__ import main as fragile
from fragile_utils.commands.train import LOG, SETTINGS, WEIGHTS
from fragile_utils.models import CIFAR10_NETS

PACKAGE = Path(__file__).resolve().parents[2] / "fragile_utils"
OPTIONS = {"relu": [], "softplus": ["--activation", "softplus"]}


def main() -> None:
    """Train what is not trained yet, then copy."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path, metavar="WORK_FOLDER")
    options.add_argument("--only", nargs="*", choices=OPTIONS, default=list(OPTIONS))
    options.add_argument("--root", default=None)
    options = options.parse_args()
    where = [] if options.root is None else ["--root", options.root]
    for kind in options.only:
        out = options.folder / kind
        if fragile(["train", "cifar10", *OPTIONS[kind], *where, "--out", str(out), "--json"]):
            raise SystemExit(2)
        weights = PACKAGE / "resources" / CIFAR10_NETS[kind]
        shutil.copyfile(out / WEIGHTS, weights)
        shutil.copyfile(out / SETTINGS, PACKAGE / "results" / f"{weights.stem}.json")
        shutil.copyfile(out / LOG, PACKAGE / "results" / f"{weights.stem}.csv")


if __name__ == "__main__":
    main()
