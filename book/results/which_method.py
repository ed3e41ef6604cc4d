"""Collect the stored results `which_method`: four methods, attacked alike on the same photographs, at small budgets.

    python book/results/which_method.py WORK_FOLDER [--add]

WORK_FOLDER holds folders of `fragile sweep`, of `which_method*.json` or of parts of them. Of each sweep the cells that
have all their images are taken, with --add beside those that are stored. Sweeps on other photographs are refused, and a
cell that is there twice. SqueezeNet gets 310 of the photographs of FRAGILE_DATA right; where rounding makes it 309, the
32 are others: a folder with the photographs that the settings name has the same everywhere.
"""

from pathlib import Path

import pandas as pd
from _common import arguments, store, whole_cells

from fragile_utils import data, experiments
from fragile_utils.experiments.folder import SETTINGS

MISLED = "integrated-gradients (guided by the probability)"
EVERY = "(every iterate measured)"
NOISE = [f"noise_{measure}" for measure in experiments.MEASURES]
KEPT = ["method", "attack", "eps", "index", "success", "rms", *experiments.MEASURES, *NOISE]


def shown(about: dict) -> dict[str, str]:
    """Return what the table calls some methods.

    A guided one is called by what is explained, and by whose guide; and it says so where every iterate was measured,
    for comparison with deep Taylor.
    """
    sweep = about["sweep"]
    guides = [method["by"]["name"] for method in sweep["methods"] if "by" in method]
    names = {"guided": MISLED if "of-probability" in guides else "integrated-gradients"}
    if sweep["measure_every"] == 1:
        names |= {method: f"{method} {EVERY}" for method in ("gradient", "deeplift")}
    return names


def collect(folders: list[Path]) -> tuple[list[dict], list[str], pd.DataFrame]:
    """Return the settings of sweeps, the names of their photographs, and one table of their whole cells."""
    found = [whole_cells(folder) for folder in folders]
    table = pd.concat([table.replace({"method": shown(about)}) for about, table in found], ignore_index=True)
    photographs = table.groupby("index")["name"].unique()
    if (photographs.str.len() > 1).any():
        raise SystemExit(f"expected sweeps on the same photographs in {folders[0].parent}")
    return [about for about, _ in found], photographs.str[0].tolist(), table[KEPT]


def main() -> None:
    """Collect what is there."""
    options = arguments(__doc__)
    options.add_argument("--add", action="store_true", help="to the stored results")
    options = options.parse_args()
    sweeps, photographs, table = collect(sorted(path.parent for path in options.folder.rglob(SETTINGS)))
    if options.add:
        stored, before = data.results("which_method")
        if stored["photographs"] != photographs:
            raise SystemExit(f"expected sweeps on the photographs of the stored results in {options.folder}")
        sweeps, table = stored["sweeps"] + sweeps, pd.concat([before, table], ignore_index=True)
    twice = table.duplicated(["method", "attack", "eps", "index"])
    if twice.any():
        row = table[twice].iloc[0]
        raise SystemExit(f"expected each cell once, got {row['method']}, {row['attack']}, {row['eps']:g} twice")
    about = {
        "about": "four methods, attacked alike on the same photographs, from a sixteenth of a level on; integrated "
        "gradients by the guide of the authors' code as well",
        "script": "book/results/which_method.py",
        "photographs": photographs,
        "sweeps": sweeps,
    }
    table = table.sort_values(["method", "attack", "eps", "index"])
    store("which_method", table, about)


if __name__ == "__main__":
    main()
