"""What the commands share: options and their checks, and how results are printed and drawn, a batch at a time."""

import argparse
import json
import logging
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from tqdm import tqdm

from fragile_utils import attacks, data, experiments, models
from fragile_utils._base import checks, schema
from fragile_utils._base.code import Code
from fragile_utils._base.devices import pick_device
from fragile_utils._base.files import make_folder, whole_file
from fragile_utils.experiments.sweep import NETWORK_OPTIONS

LARGEST = {"steps": 10**6, "patience": 10**6, "shard_size": 10**6, "batch_size": 10**6, "images": 10**8}
LONGEST_STEM = 200  # bytes of an image's name in that of its picture
MAX_CELLS = f"how many cells and shards a sweep may have (default: {experiments.MAX_CELLS:,})"
ARGUMENTS = ("config", "folder")  # which are no options
OF_THE_PARSER = ("traceback", "command", "default_of")  # what is in `options` besides those of a command

# --- Options ---------------------------------------------------------------------------------------------------------


def add_options(
    parser: argparse.ArgumentParser, *, steps: int, of_steps: str = "", images: str, devices: str, pictures: str
) -> None:
    """Declare the options that both attacks have, with what differs: a default, and what images and pictures are."""
    add = parser.add_argument
    add("--steps", type=whole, default=steps, help=f"the number of steps{of_steps}")
    add("--eps", type=float, default=8.0, help="the largest change of a pixel, in levels of 255")
    add("--images", type=whole, default=4, help=f"how many {images} right")
    add("--seed", type=whole, default=0, help="seed of all that is random")
    add("--device", default="auto", help=f"{devices}: auto takes a GPU where there is one")
    add("--batch-size", type=whole, default=16, help="how many images are attacked at a time")
    add("--json", action="store_true", help="print a JSON object a line: one an image, and a summary")
    add("--out", type=path, default=None, metavar="FOLDER", help=f"write a {pictures} here")


def add_executor_options(parser: argparse.ArgumentParser, batch_size: int) -> None:
    """Declare the options that say where a sweep, or an audit, is computed."""
    add = parser.add_argument
    many = f"how many images are attacked at a time (default: {batch_size})"
    add("--batch-size", type=whole, default=batch_size, help=many)
    add("--device", default="auto", help="auto, cpu, cuda: auto takes a GPU where there is one")
    add("--scheduler", metavar="ADDRESS", help="of a Dask cluster; or local:N, for N processes on this machine")


def executor(options: argparse.Namespace) -> experiments.InProcess | experiments.Cluster:
    """Return what computes a sweep where the options say."""
    if options.scheduler is not None:
        return experiments.Cluster(options.scheduler, options.device, options.batch_size)
    return experiments.InProcess(str(pick_device(options.device, "--device")), options.batch_size)


def check_options(options: argparse.Namespace, *, counts: tuple[str, ...], positive: tuple[str, ...]) -> None:
    """Refuse numbers that are out of range, by the names of their options, and a file where a folder is to be.

    An option that may be left out is checked when it is given.
    """
    check_folder(options.out)
    for name in counts:
        if getattr(options, name) is not None:
            schema.whole(getattr(options, name), flag(name), high=LARGEST.get(name, schema.LARGEST))
    for name in positive:
        if getattr(options, name) is not None:
            checks.positive(getattr(options, name), flag(name))
    if "eps" in positive and options.eps > 255:
        raise ValueError(f"--eps: expected at most 255 levels, got {options.eps:g}")
    if "seed" in options:
        schema.whole(options.seed, "--seed", low=0)


def check_folder(out: Path | None) -> None:
    """Refuse a file where a folder is to be."""
    if out is not None and out.exists() and not out.is_dir():
        raise ValueError(f"--out: expected a folder, got the file {out}")


def check_apply(options: argparse.Namespace, mode: str, apply: Iterable[str]) -> None:
    """Refuse options that are given beside the option `mode` and do nothing there; `apply` are those that do something.

    What is given is what differs from its default: a command gives ``parser.get_default`` as `default_of`.
    """
    for name, value in vars(options).items():
        if name not in (mode, *apply, *OF_THE_PARSER) and value != options.default_of(name):
            raise ValueError(f"{flag(name)}: this does not apply where {flag(mode)} is given; leave it out")


def check_empty(options: argparse.Namespace) -> None:
    """Refuse options without a value: as a path, nothing would be the working folder."""
    for name, value in vars(options).items():
        if value == "":
            raise ValueError(f"{flag(name)}: expected a value, got ''")


def flag(name: str) -> str:
    """Return the option, or the argument, that a name in `options` comes from."""
    return name.upper() if name in ARGUMENTS else f"--{name.replace('_', '-')}"


def path(text: str) -> "Path | str":
    """Return the path that an option gives; nothing stays nothing, for `check_empty`."""
    return Path(text) if text else text


def whole(text: str) -> int:
    """Return the whole number that an option gives, of however many digits."""
    if not re.fullmatch(r"[+-]?[0-9]+", text.strip()):
        raise argparse.ArgumentTypeError(f"expected a whole number, got {schema.shown(text)}")
    return int(text.strip()[:100])  # what has more digits is out of every range as it is


# --- Networks, methods and attacks by name ----------------------------------------------------------------------------


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options that say which network, and what there is to be said of it."""
    add = parser.add_argument
    add("--model", default="squeezenet", metavar="MODEL", help=f"{', '.join(models.MODELS)}, or {FORMS}")
    add("--mean", type=numbers, metavar="R,G,B", help="of a plain network: what it subtracts, in units of [0, 1]")
    add("--std", type=numbers, metavar="R,G,B", help="of a plain network: what it divides by, in units of [0, 1]")
    add("--size", type=whole, help="the side of its images in pixels")
    add("--classes", metavar="FILE", help="the names of its classes, one in a line, or JSON")
    add("--trust", action="store_true", help=TRUST)


FORMS = models.loading.FORMS + ": torchvision:NAME, timm:NAME, hf:FOLDER"
TRUST = "open a pickle of a whole network, which executes whatever it holds"


def load_model(options: argparse.Namespace, name: str | None = None) -> models.Classifier:
    """Return the network that the options name. To name code of one's own here is to allow it."""
    name = options.model if name is None else name
    models.loading.check_name(name, "--model")
    code = allowed(models.loading.code_of(name))
    try:
        return models.load(name, **network_options(options), allow_code=code, trust=options.trust)
    except ValueError as error:
        raise ValueError(f"--model: {str(error).removeprefix('model: ')}") from error


def network_options(options: argparse.Namespace) -> dict[str, Any]:
    """Return those of the options of `models.load` that are given."""
    return {name: value for name in NETWORK_OPTIONS if (value := getattr(options, name)) is not None}


def allowed(names: Sequence[str], pickles: bool = False) -> Code:
    """Return the permission to use the reader's own code; modules are looked for in the working folder too."""
    if names:
        look_here()
    return Code.allow(names, pickles)


def look_here() -> None:
    """Let modules of the reader's own be found in the working folder."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def numbers(text: str) -> tuple[float, ...]:
    """Return the numbers between commas that an option gives."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected numbers between commas, got {schema.shown(text)}") from None


def choice(text: str) -> experiments.Choice:
    """Return the method or the attack that an option names, with options of its own: ``topk:k=500``."""
    try:
        return experiments.Choice.parse(text, "it")
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix("it: ")) from error


# --- Progress ---------------------------------------------------------------------------------------------------------


@contextmanager
def spoken(level: int) -> Iterator[None]:
    """Within it, what the package logs from `level` on goes to standard error, above a progress bar."""
    log = logging.getLogger("fragile_utils")
    handler, before = _AboveBar(), log.level
    handler.setFormatter(logging.Formatter("fragile: %(message)s"))
    log.addHandler(handler)
    log.setLevel(level)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before)


class _AboveBar(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


# --- Results ---------------------------------------------------------------------------------------------------------


def batches(options: argparse.Namespace, batch: data.Batch) -> Iterator[tuple[int, data.Batch]]:
    """Yield `--batch-size` images at a time, with the number of the first; where pictures go is made before."""
    if options.out is not None:
        make_folder(options.out)
    for start in range(0, len(batch), options.batch_size):
        yield start, batch[start : start + options.batch_size]


def report_batch(
    options: argparse.Namespace,
    start: int,
    batch: data.Batch,
    table: pd.DataFrame,
    reasons: Sequence[str],
    draw: Callable[[int], Figure],
) -> pd.DataFrame:
    """Report a batch as soon as it is done: a line of JSON for each image if asked for, and its picture.

    `table` and `reasons` are those of the result, and `draw(i)` is the picture of image i. Returns the table with the
    images' names, classes and reasons, and the changes in levels of 255.
    """
    table = table.assign(linf=table["linf"] / attacks.LEVEL, reason=reasons)
    table.insert(0, "image", batch.names)
    table.insert(1, "class", batch.label_names)
    if options.json:
        for row in table.to_dict("records"):
            print_json(row)
    if options.out is not None:
        for i, name in enumerate(batch.names):
            stem = Path(name).stem.encode()[:LONGEST_STEM].decode(errors="ignore")
            write_picture(options.out, f"{start + i:03d}_{stem}.png", draw(i))
    return table


def report_all(
    options: argparse.Namespace, tables: Sequence[pd.DataFrame], measures: tuple[str, ...], note: str, facts: dict
) -> None:
    """Report the whole run: for programs a summary with these `facts`, for people a table and its means."""
    table = pd.concat(tables, ignore_index=True)
    summary = summarise(table, measures)
    if options.json:
        print_json(summary | {"note": note} | facts)
        return
    print(note)
    print(table.drop(columns=["label", "label_after"]).to_string(index=False, float_format="{:.3f}".format))
    means = ", ".join(f"{name} {summary[name]:.3f}" for name in measures if summary[name] is not None)
    print(f"mean over {summary['successes']} of {summary['images']} images: {means or 'none succeeded'}")
    if options.out is not None:
        print(f"pictures: {options.out}/")


def summarise(table: pd.DataFrame, measures: tuple[str, ...]) -> dict:
    """Return the counts, and the means over the images on which the attack succeeded."""
    succeeded = table[table["success"]]
    means = succeeded[list(measures)].mean() if len(succeeded) else dict.fromkeys(measures)
    return {
        "summary": True,
        "images": len(table),
        "successes": len(succeeded),
        "failures": len(table) - len(succeeded),
        **{name: means[name] for name in measures},
    }


def print_json(record: dict) -> None:
    """Print a record as one line of JSON, with null for what is not a number."""
    missing = {key for key, value in record.items() if isinstance(value, float) and not math.isfinite(value)}
    print(json.dumps(record | dict.fromkeys(missing)), flush=True)


def write_picture(folder: Path, name: str, figure: Figure) -> None:
    """Write a PNG; the file appears only when it is complete."""
    with whole_file(folder / name) as file:
        figure.savefig(file, format="png", dpi=120)
