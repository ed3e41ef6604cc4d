"""Train the networks for CIFAR-10 of `models`, those of `cifar10_trained` too, and store them in the package.

    python book/results/cifar10_networks.py WORK_FOLDER [--only net resnet vit adversarial ...] [--root DATA]

With each come its settings and its learning curve. CIFAR-10 is read from DATA, by default FRAGILE_DATA. The first takes
about 20 minutes on one core of a processor that computes in bfloat16, the others hours; a GPU takes minutes. A training
that was interrupted goes on after its last epoch.

Of the settings and curves of the package, `cifar10_curvature_lagging` and `cifar10_input-gradient_lagging` are no
network's: trainings at the batch size and learning rate of the others with the penalty of an earlier version, for
chapter 21.
"""

import shutil
from pathlib import Path

from _common import PACKAGE, RESULTS, arguments

from fragile_utils.cli import main as fragile
from fragile_utils.cli.train import LOG, SETTINGS, WEIGHTS
from fragile_utils.models import CIFAR10_TRAINED

SAME = "--batch-size 512 --learning-rate 0.2"  # of all networks that are compared as defences
FEWER = dict.fromkeys(("input-gradient", "curvature"), "--epochs 8")  # trained on one core of a CPU: an hour each
NETWORKS = {
    "net": "--preset small",
    "resnet": "--preset resnet",
    "vit": "--preset vit",
    "plain": f"--preset small --precision float32 {SAME}",
    **{name: f"--defence {name} {FEWER.get(name, '')} {SAME}" for name in CIFAR10_TRAINED if name != "plain"},
}


def main() -> None:
    """Train what is not trained yet, then copy."""
    options = arguments(__doc__)
    options.add_argument("--only", nargs="*", choices=NETWORKS, default=list(NETWORKS))
    options.add_argument("--root", default=None)
    options = options.parse_args()
    where = [] if options.root is None else ["--root", options.root]
    for name in options.only:
        folder = options.folder / name
        if fragile(["train", "cifar10", *NETWORKS[name].split(), *where, "--out", str(folder), "--json"]):
            raise SystemExit(2)
        store(folder, f"cifar10_{name}")


def store(folder: Path, name: str) -> None:
    """Copy what a training wrote to the package, under a name."""
    shutil.copyfile(folder / WEIGHTS, PACKAGE / "resources" / f"{name}.safetensors")
    shutil.copyfile(folder / SETTINGS, RESULTS / f"{name}.json")
    shutil.copyfile(folder / LOG, RESULTS / f"{name}.csv")


if __name__ == "__main__":
    main()
