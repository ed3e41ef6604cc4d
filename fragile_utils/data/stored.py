"""Results that come with the package."""

import gzip
import io
import json
from importlib import resources

import pandas as pd


def results(name: str) -> tuple[dict, pd.DataFrame]:
    """Return results that were computed once on larger data and are quoted by the book.

    Parameters
    ----------
    name : str
        ``influence_flowers``, for instance: files ``results/NAME.json`` and ``results/NAME.csv``, or ``NAME.csv.gz``
        where the table is large, of this package.

    Returns
    -------
    settings : dict
        Everything that determined the results: data, parameters, versions, hardware, duration.
    table : DataFrame
    """
    folder = resources.files("fragile_utils") / "results"
    files = folder.iterdir() if folder.is_dir() else []
    present = sorted(path.name.removesuffix(".json") for path in files if path.name.endswith(".json"))
    if name not in present:
        raise ValueError(f"name: expected one of {', '.join(present)}, got {name!r}")
    settings = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    if (packed := folder / f"{name}.csv.gz").is_file():
        return settings, pd.read_csv(io.BytesIO(gzip.decompress(packed.read_bytes())))
    with (folder / f"{name}.csv").open(encoding="utf-8") as file:
        return settings, pd.read_csv(file)
