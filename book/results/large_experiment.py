"""Compute the stored results `imagenet` and `cifar10`: the paper's Figure 3 on many images, by sweeps.

    python book/results/large_experiment.py WORK_FOLDER [--full] [--only imagenet cifar10] [-- OPTIONS OF fragile sweep]

The images are read from FRAGILE_DATA. Without --full: the configurations for a processor, about four hours on two cores
(of integrated gradients only a part). With --full: all at the paper's scale, for a GPU; its results replace the smaller
ones. A sweep that was interrupted goes on where it stopped. With --collect, what is done goes to the package as it is.
"""

import argparse
import json
from pathlib import Path

import pandas as pd

from fragile_utils import experiments
from fragile_utils.cli import main as fragile

CONFIGURATIONS = Path(__file__).resolve().parent
RESULTS = CONFIGURATIONS.parents[1] / "fragile_utils" / "results"
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
    found = [experiments.results(sweep, partial=True) for sweep in begun]
    table = pd.concat([whole(table, about["subjects"][0]["images"])[KEPT] for about, table in found])
    table = table.replace({"method": SHOWN})
    table.to_csv(RESULTS / f"{name}.csv", index=False, float_format="%.4g", lineterminator="\n")
    settings = {
        "about": "attacks on explanations of many images; one table of several sweeps",
        "script": "book/results/large_experiment.py",
        "sweeps": [settings for settings, _ in found],
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def whole(table: pd.DataFrame, images: int) -> pd.DataFrame:
    """Return the rows of the cells that have all images."""
    return table.groupby(experiments.CELL).filter(lambda cell: len(cell) == images)


def main() -> None:
    """Run what is not done yet, then collect."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path, metavar="WORK_FOLDER")
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
