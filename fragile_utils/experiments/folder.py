"""A sweep in its folder: what there is to do, what is done, and what is not what it was.

The folder holds ``settings.json``, with everything that the results depend on, and ``shards/`` with a Parquet file for
each shard: some images of one network and data set under one method, one attack and one budget. Budgets share no work,
so that a shard of several would only be a larger loss when a process is killed; the images of a shard share the network
and fill a GPU.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from fragile_utils._base import checks, schema
from fragile_utils._base.code import Code, is_code
from fragile_utils._base.devices import now
from fragile_utils._base.files import write_bytes
from fragile_utils.experiments import _parquet
from fragile_utils.experiments._parquet import Damaged
from fragile_utils.experiments.choice import Choice
from fragile_utils.experiments.parts import Parts
from fragile_utils.experiments.subject import Subject
from fragile_utils.experiments.sweep import MAX_CELLS, Cell, Sweep

SETTINGS, SHARDS = "settings.json", "shards"
SHARD_SIZE, LARGEST_SHARD = 32, 10**6  # images
LONGEST_WORDS = 190  # bytes of a shard's file name that say what is in it


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
        words = words.encode()[:LONGEST_WORDS].decode(errors="ignore")
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
    code : Code
        The reader's own functions that the sweep was allowed to call when it began: a record, which allows nothing.
    """

    sweep: Sweep
    folder: Path
    shard_size: int
    subjects: tuple[Subject, ...]
    code: Code = Code()  # noqa: RUF009 - a frozen value

    @classmethod
    def load(cls, folder: str | Path, max_cells: int = MAX_CELLS) -> "SweepFolder":
        """Return the plan that a folder was begun with. Nothing that it names is imported or called.

        Raises
        ------
        ValueError
            If there is none, or something in it is not as it is written; the message names file and field. If it has
            more than `max_cells` cells or shards.
        """
        path = Path(folder) / SETTINGS
        try:
            plan = schema.load(path, lambda given: cls._of(given, path.parent, max_cells), "the settings of a sweep")
        except ValueError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise ValueError(f"{folder}: expected the folder of a sweep, with {SETTINGS}") from error
            raise
        plan.check_shards(max_cells)
        return plan

    @classmethod
    def _of(cls, given: Any, folder: Path, max_cells: int) -> "SweepFolder":
        """Return the plan that a JSON object describes, every field checked."""
        found = schema.fields(given, "settings", ("sweep", "shard_size", "subjects"))
        sweep = Sweep.from_dict(found["sweep"], max_cells)
        size = schema.whole(found["shard_size"], "shard_size", high=LARGEST_SHARD)
        described = schema.entries(found["subjects"], "subjects", len(sweep.subjects))
        subjects = tuple(Subject.of(subject, f"subjects[{i}]") for i, subject in enumerate(described))
        for i, (subject, pair) in enumerate(zip(subjects, sweep.subjects, strict=True)):
            if (subject.model, subject.data) != pair:
                raise ValueError(f"subjects[{i}]: expected {' on '.join(pair)}, got {subject.model} on {subject.data}")
        files = schema.fields(found.get("code", {}), "code", ())
        for name, sha256 in files.items():
            if not is_code(name):
                raise ValueError(f"code: expected package.module:function, got {schema.shown(name)}")
            schema.label(sha256, f"code: {name}", 64)
        return cls(sweep, folder, size, subjects, Code(tuple(sorted(files.items()))))

    def check_shards(self, at_most: int = MAX_CELLS) -> None:
        """Refuse a plan of more shards than `at_most`, saying how many there are."""
        counts = {
            pair: -(-len(s) // self.shard_size) for pair, s in zip(self.sweep.subjects, self.subjects, strict=True)
        }
        grid = len(self.sweep.methods) * len(self.sweep.attacks) * len(self.sweep.budgets)
        if (shards := grid * sum(counts.values())) > at_most:
            raise ValueError(
                f"{self.folder}: expected at most {at_most:,} shards, got {shards:,}, of {self.shard_size} images; a "
                "larger shard_size (--shard-size) makes fewer, and max_cells (--max-cells) allows more"
            )

    def save(self) -> None:
        """Write the settings."""
        settings = {"sweep": self.sweep.to_dict(), "shard_size": self.shard_size}
        settings |= {"code": dict(self.code.files)} if self.code.files else {}
        settings["subjects"] = [subject.to_dict() for subject in self.subjects]
        settings["began"] = now()
        write_bytes(self.folder / SETTINGS, (json.dumps(settings, indent=1) + "\n").encode())

    @cached_property
    def digest(self) -> str:
        """What every file of this sweep carries, and no other: the SHA-256 of all that its rows depend on.

        But for `code`, which is compared when a sweep goes on: folders of before it was recorded stay what they are.
        """
        sweep = {name: value for name, value in self.sweep.to_dict().items() if name != "about"}
        return hashlib.sha256(json.dumps([sweep, [*map(Subject.to_dict, self.subjects)]]).encode()).hexdigest()

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
        done, damaged, missing, blocked, tables = {}, {}, [], set(), []
        for shard in self.shards:
            try:
                if (self.folder / SHARDS / shard.name).is_dir():
                    blocked.add(shard)
                    raise Damaged("there is a folder in its place; remove it")
                table, about = self.read(shard)
            except FileNotFoundError:
                missing.append(shard)
            except Damaged as error:
                damaged[shard] = str(error)
            else:
                done[shard] = about
                tables.append(table)
        return Status(self, done, damaged, tuple(missing), frozenset(blocked)), tables


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
    blocked : frozenset of Shard
        Those of the damaged ones that cannot be written again: a folder is in their place.
    """

    plan: SweepFolder
    done: dict[Shard, dict[str, Any]]
    damaged: dict[Shard, str]
    missing: tuple[Shard, ...]
    blocked: frozenset[Shard] = frozenset()

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


def begin(
    parts: Parts,
    folder: str | Path,
    shard_size: int | None,
    choose: Callable[..., Subject],
    max_cells: int = MAX_CELLS,
) -> SweepFolder:
    """Return the plan of a sweep in a folder: a new one, or the one that the folder was begun with.

    Settings under which no shard was finished, as after a mistake in them, are replaced.

    Raises
    ------
    ValueError
        If the folder holds results of other settings; the message names them.
    """
    folder, sweep = Path(folder), parts.sweep
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"folder: expected a folder, got the file {folder}")
    if shard_size is not None:
        checks.count(shard_size, "shard_size", LARGEST_SHARD)
    if (folder / SETTINGS).exists():
        plan = SweepFolder.load(folder, max_cells)
        wanted = sweep.to_dict() | {"about": plan.sweep.about, "shard_size": shard_size or plan.shard_size}
        other = schema.changed(plan.sweep.to_dict() | {"shard_size": plan.shard_size}, wanted)
        before = dict(plan.code.files)
        other += [f"the file of {name}" for name, now in parts.code.files if before.get(name, now) != now]
        if not other:
            return _with_code(plan, parts.code)
        if any((folder / SHARDS).glob("*.parquet")):
            raise ValueError(f"{folder} was begun with other settings: {'; '.join(other)}; choose another folder")
    subjects = tuple(choose(parts, model, source) for model, source in sweep.subjects)
    plan = SweepFolder(sweep, folder, shard_size or SHARD_SIZE, subjects, parts.code)
    plan.check_shards(max_cells)
    plan.save()
    return plan


def _with_code(plan: SweepFolder, code: Code) -> SweepFolder:
    """Return the plan with the files of the reader's functions, recorded where an earlier version did not."""
    if plan.code.files == code.files:
        return plan
    plan = dataclasses.replace(plan, code=code)
    plan.save()
    return plan


def duration(seconds: float) -> str:
    """Return a time as one says it: "0.3 s", "45 s", "12 min", "3 h 20 min"."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.2g} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
