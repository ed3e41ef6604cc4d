"""Collect the stored results `which_method`: four methods, attacked alike on the same photographs, at small budgets.

    python book/results/which_method.py WORK_FOLDER

WORK_FOLDER holds folders of `fragile sweep`, of `which_method*.json` or of parts of them. Of
each sweep the cells that have all their images are taken. Sweeps on other photographs are refused.
"""

import argparse
import json
from pathlib import Path

import pandas as pd

from fragile_utils import experiments
from fragile_utils.experiments.folder import SETTINGS

RESULTS = Path(__file__).resolve().parents[2] / "fragile_utils" / "results"
NAMES = {"guided": "integrated-gradients"}  # what is explained, whatever guides the attack
NOISE = [f"noise_{measure}" for measure in experiments.MEASURES]
KEPT = ["method", "attack", "eps", "index", "success", "rms", *experiments.MEASURES, *NOISE]


def collect(folders: list[Path]) -> tuple[list[dict], pd.DataFrame]:
    """Return the settings of sweeps, and one table of their whole cells."""
    found = [experiments.results(folder, partial=True) for folder in folders]
    whole = [
        table.groupby(experiments.CELL).filter(lambda cell, size=about["subjects"][0]["images"]: len(cell) == size)
        for about, table in found
    ]
    table = pd.concat(whole, ignore_index=True)
    table["method"] = table["method"].replace(NAMES)
    if (table.groupby("index")["name"].nunique() > 1).any():
        raise SystemExit(f"expected sweeps on the same photographs in {folders[0].parent}")
    twice = table.duplicated(["method", "attack", "eps", "index"])
    if twice.any():
        row = table[twice].iloc[0]
        raise SystemExit(f"expected each cell once, got {row['method']}, {row['attack']}, {row['eps']:g} twice")
    return [about for about, _ in found], table.sort_values(["method", "attack", "eps", "index"])[KEPT]


def main() -> None:
    """Collect what is there."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path, metavar="WORK_FOLDER")
    sweeps, table = collect(sorted(path.parent for path in options.parse_args().folder.rglob(SETTINGS)))
    about = {
        "about": "four methods, attacked alike on the same photographs, from a quarter of a level on",
        "script": "book/results/which_method.py",
        "sweeps": sweeps,
    }
    table.to_csv(RESULTS / "which_method.csv", index=False, float_format="%.4g", lineterminator="\n")
    (RESULTS / "which_method.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
