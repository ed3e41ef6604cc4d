"""An audit in its folder: what is missing is computed, and what was found is one value."""

import dataclasses
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from fragile_utils import attacks, data
from fragile_utils._base import schema
from fragile_utils._base.code import Code
from fragile_utils._base.devices import pick_device
from fragile_utils._base.files import is_unfinished, sweep_up, write_bytes
from fragile_utils.attacks.algorithm import EMPTY_MAP, NOT_FINITE
from fragile_utils.experiments import tables
from fragile_utils.experiments.audit import controls
from fragile_utils.experiments.audit.planning import Plan, digest_of
from fragile_utils.experiments.folder import SweepFolder
from fragile_utils.experiments.parts import Parts
from fragile_utils.experiments.running import InProcess, run
from fragile_utils.experiments.subject import Subject

SETTINGS, WORK, PARTS = "audit.json", "work", ("attacks", "natural")
SHARD = 8  # images: little is lost when an audit is stopped


@dataclass(frozen=True)
class Findings:
    """What an audit found.

    Attributes
    ----------
    plan : Plan
    facts : dict
        Of the sweep of attacks, as `experiments.results` returns them.
    attacks, natural, controls : DataFrame
        A row for each image under each method, and attack or change.
    hashes : dict
        SHA-256 of the network's parameters, of all images, and of each.
    """

    plan: Plan
    facts: dict[str, Any]
    attacks: pd.DataFrame
    natural: pd.DataFrame
    controls: pd.DataFrame
    hashes: dict[str, Any]


def check_folder(folder: Path) -> None:
    """Refuse what can be no folder of an audit: a file, a folder of other things, or where nothing can be written."""
    place = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not place.is_dir():
        raise ValueError(f"folder: expected a folder, got the file {place}")
    if not os.access(place, os.W_OK | os.X_OK):
        raise ValueError(f"folder: cannot write to {place}")
    others = folder.exists() and any(not is_unfinished(path) for path in folder.iterdir())
    if others and not (folder / SETTINGS).exists():
        raise ValueError(f"folder: expected a new folder, or that of an audit, got {folder}, with other files")


def begin(plan: Plan, folder: Path, code: Code) -> None:
    """Write the settings of an audit to its folder, or refuse a folder that holds results of others."""
    check_folder(folder)
    sweep_up(folder)
    settings = plan.audit.to_dict() | {"code": dict(code.files)}
    text, path = json.dumps(settings, indent=1), folder / SETTINGS
    if any((folder / WORK).rglob("*.parquet")):
        before = schema.load(path, lambda given: schema.fields(given, SETTINGS, ()), "the settings of an audit")
        if other := schema.changed(before, json.loads(text)):
            raise ValueError(f"{folder} was begun with other settings: {'; '.join(other)}; choose another folder")
        return
    write_bytes(path, f"{text}\n".encode())


def follow(
    plan: Plan,
    folder: Path,
    code: Code = Code(),  # noqa: B008 - a frozen value
    executor: InProcess | None = None,
    progress: bool = False,
) -> Findings:
    """Compute what is missing of an audit in its folder, and return what was found.

    Raises
    ------
    ValueError
        If the folder was begun with other settings, or something cannot be computed.
    """
    executor = InProcess() if executor is None else executor
    begin(plan, folder, code)
    found = {}
    for part in PARTS:
        inside = folder / WORK / part
        run(
            plan.audit.sweep(part),
            inside,
            shard_size=SHARD,
            executor=executor,
            progress=progress,
            allow_code=bool(code.files),
            trust=code.pickles,
        )
        found[part] = tables.results(inside)
    parts, subject, network, batch = _opened(folder, code, getattr(executor, "device", "auto"))
    beside = controls.follow(parts, subject, network, batch, folder / WORK / "controls")
    hashes = {
        "parameters": subject.parameters,
        "pixels": subject.pixels,
        "images": {name: digest_of(image) for name, image in zip(batch.names, batch.images, strict=True)},
    }
    return Findings(plan, found["attacks"][0], found["attacks"][1], found["natural"][1], beside, hashes)


def _opened(folder: Path, code: Code, device: str) -> tuple[Parts, Subject, nn.Module, data.Batch]:
    """Return the sweep of attacks of an audit, its subject, and the network and the images of that on a device."""
    attacked = SweepFolder.load(folder / WORK / "attacks")
    parts, (subject,) = Parts(attacked.sweep, code), attacked.subjects
    return parts, subject, *subject.load(parts, str(pick_device(device)))


def explained(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of images that have an explanation: not one that is zero everywhere, or not finite."""
    return rows[~rows["reason"].isin([EMPTY_MAP, NOT_FINITE])]


def examples(found: Findings, folder: Path, code: Code, device: str, method: str) -> Iterator[tuple[str, Any, Any]]:
    """Yield the worst, the median and the best image of a method under the top-k attack, attacked again.

    Each with its name, the batch of it alone, with the names of the network's classes, and the results at all budgets:
    the same as in the sweep.
    """
    parts, subject, network, batch = _opened(folder, code, device)
    batch = dataclasses.replace(batch, classes=batch.classes or getattr(network, "classes", ()))
    sweep = parts.sweep
    rows = explained(found.attacks)
    rows = rows[(rows["method"] == method) & (rows["attack"] == "topk")]
    left = rows.groupby("index")["topk_intersection"].mean().sort_values(kind="stable")
    places = {"worst": left.index[0], "median": left.index[len(left) // 2], "best": left.index[-1]}
    chosen = parts.method(sweep.labels("methods")[method])
    for word, place in places.items():
        index = int(place)
        part = batch[index]
        yield (
            word,
            part,
            attacks.run_budgets(
                parts.attack(sweep.labels("attacks")["topk"], part.images),
                network,
                part.images,
                part.labels,
                chosen.among(slice(index, index + 1), len(batch)),
                budgets=[eps * attacks.LEVEL for eps in sweep.budgets],
                **sweep.search(index, subject.beta),
            ),
        )
