"""Compute the stored results `imagenet` and `cifar10`: the paper's Figure 3 on many images, by sweeps.

    python book/results/large_experiment.py WORK_FOLDER [--gpu | --full] [--only NAME ...] [-- OPTIONS OF fragile sweep]
    python book/results/large_experiment.py WORK_FOLDER --only NAME --collect [--add]

The images are read from FRAGILE_DATA. Without --gpu and --full: the configurations for a processor, about four hours on
two cores (of integrated gradients only a part). With --gpu: more images, some twenty minutes on a GPU. With --full: all
at the paper's scale, for a GPU; its results replace the smaller ones. A sweep that was interrupted goes on where it
stopped. With --collect, what is done goes to the package as it is, with --add beside what is stored.

An image has one index in the table, whichever sweeps saw it: methods can be compared image by image on those that both
have. Where several sweeps have a cell of the grid, that with the most images is taken.
"""

from pathlib import Path
from typing import Any

import pandas as pd
from _common import arguments, one_table, store, whole_cells

from fragile_utils import data, experiments
from fragile_utils.cli import main as fragile

CONFIGURATIONS = Path(__file__).resolve().parent
SWEEPS = {
    "imagenet": {
        "cpu": ["imagenet_cpu", "imagenet_ig_cpu", "imagenet_deep_taylor_cpu"],
        "gpu": ["imagenet_gpu", "imagenet_ig_gpu", "imagenet_deep_taylor_gpu"],
        "full": ["imagenet_full"],
    },
    "cifar10": {
        "cpu": ["cifar10_cpu", "cifar10_ig_cpu", "cifar10_deep_taylor_cpu"],
        "gpu": [],
        "full": ["cifar10_full"],
    },
}
SHOWN = {"guided": "integrated-gradients"}  # guided by the same method with fewer points
CELL = ["method", "attack", "eps"]
KEPT = [*CELL, "index", "success", "iteration", *experiments.MEASURES, "sweep"]


def collect(folder: Path, name: str, sweeps: list[str], add: bool) -> None:
    """Write the cells of some sweeps that have all their images to one table in the package, and their settings."""
    found = stored(name) if add else []
    for sweep in (folder / sweep for sweep in sweeps):
        if sweep.exists() and experiments.status(sweep).done:
            about, table = whole_cells(sweep)
            found.append((about, table.replace({"method": SHOWN})))
    if not found:
        raise SystemExit(f"{folder}: nothing of {name} is done yet")
    table, images = one_table([table for _, table in found], CELL)
    used = sorted(set(table["sweep"]))
    settings = {
        "about": "attacks on explanations of many images; one table of several sweeps",
        "script": "book/results/large_experiment.py",
        "images": images,
        "sweeps": [found[i][0] for i in used],
    }
    table["sweep"] = table["sweep"].map(used.index)
    store(name, table[KEPT], settings)


def stored(name: str) -> list[tuple[dict[str, Any], pd.DataFrame]]:
    """Return the settings of each sweep that is stored, and its rows, with the names of the images."""
    settings, table = data.results(name)
    table = table.assign(name=[settings["images"][i] for i in table["index"]])
    return [(about, table[table["sweep"] == i]) for i, about in enumerate(settings["sweeps"])]


def main() -> None:
    """Run what is not done yet, then collect."""
    options = arguments(__doc__)
    options.add_argument("--gpu", action="store_true", help="more images, for a GPU")
    options.add_argument("--full", action="store_true", help="at the paper's scale, for a GPU")
    options.add_argument("--only", nargs="*", choices=SWEEPS, default=list(SWEEPS))
    options.add_argument("--collect", action="store_true", help="compute nothing")
    options.add_argument("--add", action="store_true", help="to the stored results")
    options, of_sweep = options.parse_known_args()
    for name in options.only:
        size = "full" if options.full else "gpu" if options.gpu else "cpu"
        for sweep in SWEEPS[name][size] if not options.collect else ():
            config = CONFIGURATIONS / f"{sweep}.json"
            if fragile(["sweep", str(config), "--out", str(options.folder / sweep), *of_sweep]):
                raise SystemExit(2)
        wanted = ("full",) if options.full else ("cpu", "gpu")
        collect(options.folder, name, [sweep for size in wanted for sweep in SWEEPS[name][size]], options.add)


if __name__ == "__main__":
    main()
