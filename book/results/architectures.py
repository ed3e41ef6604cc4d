"""Collect the stored results `architectures`: the same attacks on networks of several architectures.

    python book/results/architectures.py WORK_FOLDER [--result NAME] [--names NAME=NETWORK ...] [--add]

WORK_FOLDER holds folders of `fragile sweep`, one or several for each network, of `architectures_imagenet.json` for
example, or parts of it. Images are known by their classes and names, so that all networks that saw an image share its
index. Where a sweep called a network by another name than `models.MODELS` has, --names says which it is. A network that
is not, weight by weight, the one in this package is refused.

The sweeps of `architectures_cifar10*.json` without attention are a result of their own, --result architectures_cifar10:
all their networks saw the same 500 images. With --add the cells go beside those that are stored. A sweep that is added
holds random signs of the same network and method as well: where they are far from what is stored, its images are
others, and it is refused.
"""

from pathlib import Path
from typing import Any

import pandas as pd
from _common import arguments, by_image, store, whole_cells

from fragile_utils import data, experiments, models
from fragile_utils._base.contents import digest
from fragile_utils.experiments import Subject, SweepFolder
from fragile_utils.experiments.folder import SETTINGS

SCRIPT = "book/results/architectures.py"
ROW = ["model", "method", "attack", "index"]
NOISE = "noise_topk_intersection"  # of random signs with the root mean square of the attack
VALUES = [*experiments.MEASURES, NOISE]


def collect(folders: list[Path], names: dict[str, str]) -> tuple[dict[str, Any], pd.DataFrame]:
    """Return the settings of sweeps, and one table of those of their cells that have all their images."""
    abouts, tables, known = [], [], {}
    for folder in folders:
        check_networks(folder, names, known)
        about, table = whole_cells(folder)
        subjects = {subject.model: subject for subject in SweepFolder.load(folder).subjects}
        images = [place(subjects[model], i) for model, i in zip(table["model"], table["index"], strict=True)]
        tables.append(table.assign(name=images, model=table["model"].replace(names)))
        abouts.append(without_paths(about))
    return {"sweeps": abouts}, wide(pd.concat(tables, ignore_index=True))


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

    Nothing stands where the attack did not succeed. An image has the same index wherever its name is the same.
    """
    table, _ = by_image(table)
    values = table[VALUES].where(table["success"])
    values.loc[table["attack"] == "random-sign", NOISE] = float("nan")  # noise beside noise
    cells = pd.concat([table[[*ROW, "eps"]], values], axis=1)
    found = cells.pivot(index=ROW, columns="eps", values=VALUES)
    found.columns = [f"{measure}@{eps:g}" for measure, eps in found.columns]
    return found.reset_index()


def added(before: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Return the stored table with the cells of another, whose images are put at the places of the stored ones."""
    parts = [before.set_index(ROW)]
    for (model, method), part in table.groupby(["model", "method"]):
        stored = before[(before["model"] == model) & (before["method"] == method)]
        places = sorted(stored["index"].unique())
        if len(places) != part["index"].nunique():
            raise SystemExit(f"{model}, {method}: expected the {len(places)} images that are stored")
        part = part.assign(index=part["index"].map(dict(zip(sorted(part["index"].unique()), places, strict=True))))
        stored, part = stored.set_index(ROW), part.set_index(ROW)
        both = stored.index.intersection(part.index)
        of_stored, of_part = stored.loc[both, part.columns], part.loc[both]
        columns = of_part.columns[of_stored.notna().any() & of_part.notna().any()]
        apart, spread = (of_part - of_stored)[columns].abs().mean(), of_stored[columns].std()
        if columns.empty or (apart > 0.1 * spread).any():  # of other images it would be as large as the spread
            raise SystemExit(f"{model}, {method}: expected what is stored of random signs, on the same images")
        parts.append(part)
    whole, *others = parts
    for part in others:
        whole = whole.combine_first(part)
    return whole.reset_index()[before.columns].sort_values(ROW)


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
    settings, table = collect(folders, names)
    about = {"about": "the same attacks on explanations of several networks", "script": SCRIPT}
    if options.add:
        stored, before = data.results(options.result)
        settings["sweeps"] = stored["sweeps"] + settings["sweeps"]
        table = added(before, table)
    store(options.result, table, about | settings, packed=options.result != "architectures")


if __name__ == "__main__":
    main()
