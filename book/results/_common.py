"""What the scripts in this folder share: their arguments, parts that are computed once, and where results go."""

import argparse
import gzip
import json
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from fragile_utils import experiments
from fragile_utils._base.files import write_bytes

PACKAGE = Path(__file__).resolve().parents[2] / "fragile_utils"
RESULTS = PACKAGE / "results"


def arguments(doc: str) -> argparse.ArgumentParser:
    """Return a parser that shows the docstring of a script as it is, and takes the folder in which it works."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="WORK_FOLDER")
    return parser


def write(path: Path, table: pd.DataFrame, about: dict[str, Any] | None = None, *, digits: int | None = None) -> None:
    """Write a table, whole or not at all, so that a script may skip it; before it NAME.json, what is known about it."""
    if about is not None:
        write_bytes(path.with_suffix(".json"), (json.dumps(about, indent=1) + "\n").encode())
    write_bytes(path, in_csv(table, digits))


def in_csv(table: pd.DataFrame, digits: int | None) -> bytes:
    """Return a table as it is written; numbers with so many digits, or None for all."""
    form = None if digits is None else f"%.{digits}g"
    return table.to_csv(index=False, float_format=form, lineterminator="\n").encode()


def store(
    name: str, table: pd.DataFrame, about: dict[str, Any], *, digits: int | None = 4, packed: bool = False
) -> None:
    """Write results of the package, as `data.results` reads them, in one form: a table that was packed stays so."""
    path, gz = RESULTS / f"{name}.csv", RESULTS / f"{name}.csv.gz"
    if not packed and not gz.exists():
        write(path, table, about, digits=digits)
        return
    path.unlink(missing_ok=True)
    write_bytes(path.with_suffix(".json"), (json.dumps(about, indent=1) + "\n").encode())
    write_bytes(gz, gzip.compress(in_csv(table, digits), mtime=0))


def by_image(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Return a table of several sweeps in which an image, known by its name, has one index; and the names in order."""
    names = sorted(set(table["name"]))
    return table.assign(index=table["name"].map({name: i for i, name in enumerate(names)})), names


def one_table(tables: list[pd.DataFrame], cell: list[str]) -> tuple[pd.DataFrame, list[str]]:
    """Return one table, in which an image has one index, and the names of the images; `sweep` says whose a row is.

    Of a cell that several sweeps have it holds the one with the most images, of equal ones the last.
    """
    table = pd.concat([table.assign(sweep=i) for i, table in enumerate(tables)], ignore_index=True)
    sizes = table.groupby([*cell, "sweep"]).size().reset_index(name="size").sort_values(["size", "sweep"])
    best = sizes.drop_duplicates(cell, keep="last").drop(columns="size")
    table, images = by_image(table.merge(best, on=[*cell, "sweep"]))
    return table.sort_values([*cell, "index"]), images


def evenly(of: int, count: int) -> list[int]:
    """Return the places of at most `count` of some items, evenly spread, the first and the last among them."""
    return torch.linspace(0, of - 1, min(count, of), dtype=torch.float64).round().int().tolist()


def whole_cells(sweep: Path) -> tuple[dict[str, Any], pd.DataFrame]:
    """Return what is known of a sweep, as from `experiments.results`, and its cells that have all their images."""
    about, table = experiments.results(sweep, partial=True)
    images = {(subject["model"], subject["data"]): subject["images"] for subject in about["subjects"]}
    wanted = pd.Series([images[pair] for pair in zip(table["model"], table["data"], strict=True)], index=table.index)
    return about, table[table.groupby(experiments.CELL)["index"].transform("size") == wanted]
