"""Collect the stored results `architectures`: the same attacks on networks of several architectures.

    python book/results/architectures.py WORK_FOLDER [--result NAME] [--names NAME=NETWORK ...] [--add]

WORK_FOLDER holds folders of `fragile sweep`, one or several for each network, of `architectures_imagenet.json` for
example, or parts of it. Images are known by their classes and names, so that all networks that saw an image share its
index. Where a sweep called a network by another name than `models.MODELS` has, --names says which it is. A network that
is not, weight by weight, the one in this package is refused.

The sweeps of `architectures_cifar10*.json` are a result of their own, --result architectures_cifar10: the gradient and
DeepLIFT of all networks on the same 500 images, other methods on 200 of these. With --add the cells go beside those
that are stored. Where a cell of the grid is there twice, the one with more images is taken.
"""

from pathlib import Path
from typing import Any

import pandas as pd
from _common import arguments, one_table, store, whole_cells

from fragile_utils import data, experiments, models
from fragile_utils._base.contents import digest
from fragile_utils.experiments import Subject, SweepFolder
from fragile_utils.experiments.folder import SETTINGS

SCRIPT = "book/results/architectures.py"
ROW = ["model", "method", "attack", "index"]
CELL = ["model", "method", "attack", "eps"]
NOISE = "noise_topk_intersection"  # of random signs with the root mean square of the attack
VALUES = [*experiments.MEASURES, NOISE]
SHOWN = {"guided": "integrated-gradients"}  # guided by the same method with fewer points


def collect(folders: list[Path], names: dict[str, str]) -> list[tuple[dict[str, Any], pd.DataFrame]]:
    """Return the settings of each sweep, and those of its cells that have all their images, which are known by name."""
    found, known = [], {}
    for folder in folders:
        check_networks(folder, names, known)
        about, table = whole_cells(folder)
        subjects = {subject.model: subject for subject in SweepFolder.load(folder).subjects}
        images = [place(subjects[model], i) for model, i in zip(table["model"], table["index"], strict=True)]
        found.append((without_paths(about), table.assign(name=images).replace({"model": names, "method": SHOWN})))
    return found


def check_networks(folder: Path, names: dict[str, str], known: dict[str, str]) -> None:
    """Refuse a sweep on other weights than those in this package."""
    for subject in SweepFolder.load(folder).subjects:
        name = names.get(subject.model, subject.model)
        if name not in known:
            network = models.load(name)
            known[name] = digest([*network.parameters(), *network.buffers()])
        if known[name] != subject.parameters:
            raise SystemExit(f"{folder}: {subject.model} has other weights than {name} in this package")


def place(subject: Subject, i: int) -> str:
    """Return what tells image i of a subject from all others: its class, and its name in it."""
    return f"{subject.labels[i]:04d}/{subject.names[i]}"


def wide(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each image, network, method and attack, with a column MEASURE@LEVELS for each budget.

    Nothing stands where the attack did not succeed.
    """
    values = table[VALUES].where(table["success"])
    values.loc[table["attack"] == "random-sign", NOISE] = float("nan")  # noise beside noise
    cells = pd.concat([table[[*ROW, "eps"]], values], axis=1)
    found = cells.pivot(index=ROW, columns="eps", values=VALUES)
    found.columns = [f"{measure}@{eps:g}" for measure, eps in found.columns]
    return found.reset_index()


def long(table: pd.DataFrame, images: list[str]) -> pd.DataFrame:
    """Return the cells of a stored table, as `wide` takes them; `images` has the names of the images."""
    cells = pd.wide_to_long(table, VALUES, i=ROW, j="eps", sep="@", suffix=r"[\d.]+").reset_index()
    cells = cells.assign(name=[images[i] for i in cells["index"]], success=cells[VALUES[0]].notna())
    return cells[cells.groupby(CELL)["success"].transform("any")]


def without_paths(value: Any) -> Any:
    """Return settings in which a folder is called by its name alone, wherever it was."""
    if isinstance(value, dict):
        return {key: without_paths(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [without_paths(entry) for entry in value]
    return Path(value).name if isinstance(value, str) and value.startswith(("/", "./")) else value


def main() -> None:
    """Collect what is there."""
    options = arguments(__doc__)
    options.add_argument("--result", choices=("architectures", "architectures_cifar10"), default="architectures")
    options.add_argument("--names", nargs="*", default=[], metavar="NAME=NETWORK")
    options.add_argument("--add", action="store_true", help="to the stored results")
    options = options.parse_args()
    names = dict(pair.split("=", 1) for pair in options.names)
    folders = sorted(path.parent for path in options.folder.rglob(SETTINGS))
    if not folders:
        raise SystemExit(f"{options.folder}: expected folders of fragile sweep, found none")
    found = collect(folders, names)
    sweeps, tables = [about for about, _ in found], [table for _, table in found]
    if options.add:
        settings, stored = data.results(options.result)
        sweeps, tables = settings["sweeps"] + sweeps, [long(stored, settings["images"]), *tables]
    table, images = one_table(tables, CELL)
    about = {"about": "the same attacks on explanations of several networks", "script": SCRIPT, "images": images}
    store(options.result, wide(table), about | {"sweeps": sweeps}, packed=options.result != "architectures")


if __name__ == "__main__":
    main()
