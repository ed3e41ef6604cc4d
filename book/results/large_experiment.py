"""Compute the stored results `imagenet` and `cifar10`: the paper's Figure 3 on many images, by sweeps.

    python book/results/large_experiment.py WORK_FOLDER [--full] [--only imagenet cifar10] [-- OPTIONS OF fragile sweep]

The images are read from FRAGILE_DATA. Without --full: the configurations for a processor, about four hours on two cores
(of integrated gradients only a part). With --full: all at the paper's scale, for a GPU; its results replace the smaller
ones. A sweep that was interrupted goes on where it stopped. With --collect, what is done goes to the package as it is.
"""

from pathlib import Path

import pandas as pd
from _common import arguments, store, whole_cells

from fragile_utils import experiments
from fragile_utils.cli import main as fragile

CONFIGURATIONS = Path(__file__).resolve().parent
SMALL = {
    "imagenet": ["imagenet_cpu", "imagenet_ig_cpu", "imagenet_deep_taylor_cpu"],
    "cifar10": ["cifar10_cpu", "cifar10_ig_cpu", "cifar10_deep_taylor_cpu"],
}
FULL = {"imagenet": ["imagenet_full"], "cifar10": ["cifar10_full"]}
SHOWN = {"guided": "integrated-gradients"}  # guided by the same method with fewer points
KEPT = ["method", "attack", "eps", "index", "success", "iteration", *experiments.MEASURES]


def collect(folder: Path, name: str, sweeps: list[str]) -> None:
    """Write the rows of some sweeps, those of complete cells, to one table in the package, and their settings."""
    begun = [
        folder / sweep for sweep in sweeps if (folder / sweep).exists() and experiments.status(folder / sweep).done
    ]
    if not begun:
        raise SystemExit(f"{folder}: nothing of {name} is done yet")
    found = [whole_cells(sweep) for sweep in begun]
    table = pd.concat([table[KEPT] for _, table in found]).replace({"method": SHOWN})
    settings = {
        "about": "attacks on explanations of many images; one table of several sweeps",
        "script": "book/results/large_experiment.py",
        "sweeps": [settings for settings, _ in found],
    }
    store(name, table, settings)


def main() -> None:
    """Run what is not done yet, then collect."""
    options = arguments(__doc__)
    options.add_argument("--full", action="store_true", help="at the paper's scale, for a GPU")
    options.add_argument("--only", nargs="*", choices=SMALL, default=list(SMALL))
    options.add_argument("--collect", action="store_true", help="compute nothing")
    options, of_sweep = options.parse_known_args()
    for name in options.only:
        sweeps = (FULL if options.full else SMALL)[name]
        for sweep in sweeps if not options.collect else ():
            config = CONFIGURATIONS / f"{sweep}.json"
            if fragile(["sweep", str(config), "--out", str(options.folder / sweep), *of_sweep]):
                raise SystemExit(2)
        collect(options.folder, name, sweeps)


if __name__ == "__main__":
    main()
