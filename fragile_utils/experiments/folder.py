"""A sweep in its folder: what there is to do, what is done, and what is not what it was.

The folder holds ``settings.json``, with everything that the results depend on, and ``shards/`` with a Parquet file for
each shard: some images of one network and data set under one method, one attack and one budget. Budgets share no work,
so that a shard of several would only be a larger loss when a process is killed; the images of a shard share the network
and fill a GPU.
"""

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from fragile_utils._base import checks
from fragile_utils._base.files import write_bytes
from fragile_utils.experiments import _parquet
from fragile_utils.experiments._parquet import Damaged
from fragile_utils.experiments.choice import Choice
from fragile_utils.experiments.subject import Subject
from fragile_utils.experiments.sweep import Cell, Sweep

SETTINGS, SHARDS = "settings.json", "shards"
SHARD_SIZE = 32  # images


@dataclass(frozen=True)
class Shard:
    """Some images of a subject in one cell of the grid: what is computed at a time, and one file."""

    number: int  # of the cell
    subject: int
    cell: Cell
    method: Choice
    attack: Choice
    first: int
    last: int  # not included

    def __len__(self) -> int:
        return self.last - self.first

    @property
    def name(self) -> str:
        """The name of its file."""
        parts = (self.cell.method, self.cell.attack, f"{self.cell.eps:g}")
        words = "_".join("".join(c if c.isalnum() or c in "-." else "-" for c in part).strip("-") for part in parts)
        return f"{self.number:04d}_{words}_{self.first:06d}.parquet"


@dataclass(frozen=True)
class SweepFolder:
    """A sweep in its folder: what there is to do, and what is done.

    Attributes
    ----------
    sweep : Sweep
    folder : path
    shard_size : int
    subjects : tuple of Subject
    """

    sweep: Sweep
    folder: Path
    shard_size: int
    subjects: tuple[Subject, ...]

    @classmethod
    def load(cls, folder: str | Path) -> "SweepFolder":
        """Return the plan that a folder was begun with."""
        path = Path(folder) / SETTINGS
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            subjects = [
                Subject(**{name: _tuple(value) for name, value in given.items()}) for given in found["subjects"]
            ]
            return cls(Sweep.from_dict(found["sweep"]), Path(folder), found["shard_size"], tuple(subjects))
        except FileNotFoundError as error:
            raise ValueError(f"{folder}: expected the folder of a sweep, with {SETTINGS}") from error
        except OSError as error:
            raise ValueError(f"cannot read {path}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: these are not the settings of a sweep: {error}") from error

    def save(self) -> None:
        """Write the settings."""
        settings = {"sweep": self.sweep.to_dict(), "shard_size": self.shard_size}
        settings["subjects"] = [dataclasses.asdict(subject) for subject in self.subjects]
        settings["began"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        write_bytes(self.folder / SETTINGS, (json.dumps(settings, indent=1) + "\n").encode())

    @cached_property
    def digest(self) -> str:
        """What every file of this sweep carries, and no other: the SHA-256 of all that its rows depend on."""
        sweep = {name: value for name, value in self.sweep.to_dict().items() if name != "about"}
        return hashlib.sha256(json.dumps([sweep, [*map(dataclasses.asdict, self.subjects)]]).encode()).hexdigest()

    @cached_property
    def shards(self) -> tuple[Shard, ...]:
        """All shards, those of one network and data set in sequence."""
        places = {pair: i for i, pair in enumerate(self.sweep.subjects)}
        return tuple(
            Shard(
                number, subject, cell, method, attack, first, min(first + self.shard_size, len(self.subjects[subject]))
            )
            for number, (cell, method, attack) in enumerate(self.sweep.cells())
            for subject in [places[cell.model, cell.data]]
            for first in range(0, len(self.subjects[subject]), self.shard_size)
        )

    def write(self, shard: Shard, table: pd.DataFrame, about: dict[str, Any]) -> None:
        """Write a shard's file."""
        _parquet.write(self.folder / SHARDS / shard.name, table, about | {"sweep": self.digest})

    def read(self, shard: Shard) -> tuple[pd.DataFrame, dict[str, Any]]:
        """Return what a shard's file holds: a row for each image, and what is known about the computation.

        Raises
        ------
        ValueError
            If the file is damaged, or of another sweep.
        FileNotFoundError
            If there is none.
        """
        keys = {name: [value] * len(shard) for name, value in dataclasses.asdict(shard.cell).items()}
        keys |= {
            "index": range(shard.first, shard.last),
            "name": self.subjects[shard.subject].names[shard.first : shard.last],
        }
        table, about = _parquet.read(self.folder / SHARDS / shard.name, pd.DataFrame(keys))
        if about.get("sweep") != self.digest:
            raise Damaged("it belongs to another sweep")
        return table, about

    def look(self) -> tuple["Status", list[pd.DataFrame]]:
        """Read every shard. Return how far the sweep is, and the tables of those that are whole."""
        done, damaged, missing, tables = {}, {}, [], []
        for shard in self.shards:
            try:
                table, about = self.read(shard)
            except FileNotFoundError:
                missing.append(shard)
            except Damaged as error:
                damaged[shard] = str(error)
            else:
                done[shard] = about
                tables.append(table)
        return Status(self, done, damaged, tuple(missing)), tables


@dataclass(frozen=True)
class Status:
    """How far a sweep is.

    Attributes
    ----------
    plan : SweepFolder
    done : dict
        From each finished shard to what is known about its computation: seconds, device, versions, time.
    damaged : dict
        From each shard whose file is not what was written to the reason.
    missing : tuple of Shard
    """

    plan: SweepFolder
    done: dict[Shard, dict[str, Any]]
    damaged: dict[Shard, str]
    missing: tuple[Shard, ...]

    @property
    def to_do(self) -> list[Shard]:
        """The shards without a good file, in the order of the plan."""
        return [shard for shard in self.plan.shards if shard not in self.done]

    @property
    def seconds(self) -> float:
        """What the finished shards took, added up over all workers."""
        return sum(about["seconds"] for about in self.done.values())

    def estimate(self) -> float | None:
        """Return how many seconds of computation are left; None while nothing is finished.

        An image takes what images of the same network, method and attack took; where none has been timed yet, of the
        same network and method, then of any.
        """
        spent: dict[tuple, list[float]] = {}
        for shard, about in self.done.items():
            for key in _kinds(shard):
                total = spent.setdefault(key, [0.0, 0.0])
                total[0] += about["seconds"]
                total[1] += len(shard)
        if not spent:
            return None
        rates = {key: seconds / images for key, (seconds, images) in spent.items()}
        return sum(len(shard) * next(rates[key] for key in _kinds(shard) if key in rates) for shard in self.to_do)

    def describe(self) -> str:
        """Return it in a line."""
        line = f"{len(self.done)} of {len(self.plan.shards)} shards done in {duration(self.seconds)}"
        line += f", {len(self.damaged)} damaged" if self.damaged else ""
        left = self.estimate()
        return line + (f"; about {duration(left)} of computation left" if left else "")


def _kinds(shard: Shard) -> tuple[tuple, ...]:
    return (shard.subject, shard.method, shard.attack), (shard.subject, shard.method), ()


def begin(sweep: Sweep, folder: str | Path, shard_size: int | None, choose: Callable[..., Subject]) -> SweepFolder:
    """Return the plan of a sweep in a folder: a new one, or the one that the folder was begun with.

    Settings under which no shard was finished, as after a mistake in them, are replaced.

    Raises
    ------
    ValueError
        If the folder holds results of other settings; the message names them.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"folder: expected a folder, got the file {folder}")
    if shard_size is not None:
        checks.count(shard_size, "shard_size")
    if (folder / SETTINGS).exists():
        plan = SweepFolder.load(folder)
        here, there = sweep.to_dict(), plan.sweep.to_dict()
        here["shard_size"], there["shard_size"] = shard_size or plan.shard_size, plan.shard_size
        other = [
            f"{name} {there[name]} (now {here[name]})" for name in here if here[name] != there[name] and name != "about"
        ]
        if not other:
            return plan
        if any((folder / SHARDS).glob("*.parquet")):
            raise ValueError(f"{folder} was begun with other settings: {'; '.join(other)}; choose another folder")
    subjects = tuple(choose(sweep, model, source) for model, source in sweep.subjects)
    plan = SweepFolder(sweep, folder, shard_size or SHARD_SIZE, subjects)
    plan.save()
    return plan


def duration(seconds: float) -> str:
    """Return a time as one says it: "0.3 s", "45 s", "12 min", "3 h 20 min"."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.2g} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
