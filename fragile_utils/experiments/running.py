"""Large experiments: a grid of attacks on many images, computed shard by shard, stopped and gone on with at any time.

A shard is a file; what is finished is never computed again, and what is damaged is::

    sweep = experiments.Sweep.load("sweep.json")
    experiments.run(sweep, "folder")
    settings, table = experiments.results("folder")  # one row for each image, method, attack and budget
    experiments.summary(table)  # means, intervals, medians
"""

import contextlib
import logging
import signal
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

from fragile_utils import checks, shards
from fragile_utils.bootstrap import mean_interval
from fragile_utils.computing import compute
from fragile_utils.grid import Choice, Sweep
from fragile_utils.plan import SHARDS, Plan, Shard, Status, begin, duration
from fragile_utils.subjects import Subject

__all__ = [
    "Choice",
    "InProcess",
    "Plan",
    "Shard",
    "Status",
    "Subject",
    "Sweep",
    "compute",
    "results",
    "run",
    "status",
    "summary",
]

BATCH_SIZE = 16  # images
CELL = ["model", "data", "method", "attack", "eps"]
MEASURES = ["topk_intersection", "rank_correlation", "center_shift"]

log = logging.getLogger(__name__)


# --- The loop --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class InProcess:
    """Computes in this process: the GPU, or the threads of PyTorch, are the parallelism.

    Parameters
    ----------
    device : str
        "auto" is a GPU where there is one.
    batch_size : int
        How many images are attacked at a time, at most; no more than a shard has.
    """

    device: str = "auto"
    batch_size: int = BATCH_SIZE

    workers = 1

    def __post_init__(self) -> None:
        checks.count(self.batch_size, "batch_size")

    def __enter__(self) -> "InProcess":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def choose(self, sweep: Sweep, model: str, source: str) -> Subject:
        """Return `Subject.choose`."""
        return Subject.choose(sweep, model, source, self.device)

    def compute(self, plan: Plan, to_do: list[Shard]) -> Iterator[tuple[Shard, pd.DataFrame, dict[str, Any]]]:
        """Yield each shard as it is finished, with what `compute` returns."""
        for shard in to_do:
            yield shard, *compute(plan.sweep, plan.subjects[shard.subject], shard, self.batch_size, self.device)


def run(
    sweep: Sweep,
    folder: str | Path,
    *,
    shard_size: int | None = None,
    executor: InProcess | None = None,
    progress: bool = False,
) -> Status:
    """Compute what is missing of a sweep in its folder.

    Parameters
    ----------
    sweep : Sweep
    folder : path
        New, or begun with the same sweep: what is finished there is kept, what is damaged is computed again (and said
        through ``logging``). Two processes on one folder do each other no harm, and no good.
    shard_size : int, optional
        How many images a shard has: 32 for a new folder. What takes minutes is a good size.
    executor : InProcess or cluster.Cluster, optional
        Who computes.
    progress : bool
        Show a progress bar with an estimate of the time left.

    Returns
    -------
    Status

    Raises
    ------
    ValueError
        If the folder holds other settings, or cannot be written to, or a shard cannot be computed.
    KeyboardInterrupt
        On Ctrl-C, or when the process is told to end (SIGTERM). Finished shards stay.
    """
    executor = InProcess() if executor is None else executor
    with _interruptible(), executor:
        plan = begin(sweep, folder, shard_size, executor.choose)
        shards.sweep_up(plan.folder)
        shards.sweep_up(plan.folder / SHARDS)
        state, _ = plan.look()
        for shard, reason in state.damaged.items():
            log.warning("%s is damaged and computed again: %s", plan.folder / SHARDS / shard.name, reason)
        _follow(state, executor, progress)
        return plan.look()[0]


def _follow(state: Status, executor: InProcess, progress: bool) -> None:
    """Write each shard as it comes, and show how far the sweep is."""
    plan, total = state.plan, len(state.plan.shards)
    bar = tqdm(
        total=total,
        initial=len(state.done),
        desc="sweep",
        unit="shard",
        disable=not progress,
        bar_format="{desc}: {n_fmt}/{total_fmt} shards |{bar}| {elapsed}{postfix}",
    )
    with bar, contextlib.closing(executor.compute(plan, state.to_do)) as finished:
        for shard, table, about in finished:
            for note in about["notes"]:
                log.warning("%s", note)
            plan.write(shard, table, about)
            state.done[shard] = about
            log.info("%d of %d: %s, %s", len(state.done), total, shard.name, duration(about["seconds"]))
            left = state.estimate()
            text = f"about {duration(left / executor.workers)} left" if left else ""
            bar.set_postfix_str(text, refresh=False)
            bar.update()


class _Stopped(BaseException):
    """Not a KeyboardInterrupt, which an attack takes for a wish to have the best so far."""


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Within it, Ctrl-C and SIGTERM end the sweep, with a KeyboardInterrupt."""

    def stop(*_: Any) -> None:
        raise _Stopped

    if threading.current_thread() is not threading.main_thread():  # signals reach the main thread only
        yield
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except _Stopped:
        raise KeyboardInterrupt from None
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


# --- Results ---------------------------------------------------------------------------------------------------------


def status(folder: str | Path) -> Status:
    """Return how far the sweep in a folder is. Every file is read and checked."""
    return Plan.load(folder).look()[0]


def results(folder: str | Path, *, partial: bool = False) -> tuple[dict[str, Any], pd.DataFrame]:
    """Return the results of a sweep.

    Parameters
    ----------
    folder : path
    partial : bool
        Be content with the shards that are finished and whole.

    Returns
    -------
    settings : dict
        The sweep, and what is to be shown beside its figures: images, versions, hardware, seconds.
    table : DataFrame
        One row for each image in each cell of the grid. Columns: those of `grid.Cell`, ``index`` and ``name`` of the
        image, what became of it (``linf`` in levels of 255), and `MEASURES`. The measures of an image on which the
        attack did not succeed are those of the original.

    Raises
    ------
    ValueError
        If the folder is not that of a sweep; without `partial`, if shards are missing or damaged.
    """
    state, tables = Plan.load(folder).look()
    if not tables or (state.to_do and not partial):
        raise ValueError(f"{folder}: {state.describe()}; run the sweep again to complete it")
    return facts(state), pd.concat(tables, ignore_index=True)


def facts(state: Status) -> dict[str, Any]:
    """Return what is to be known of a sweep's results, as JSON can hold it."""
    plan, abouts = state.plan, state.done.values()
    return {
        "about": plan.sweep.about,
        "sweep": {name: value for name, value in plan.sweep.to_dict().items() if name != "about"},
        "subjects": [
            {"model": s.model, "data": s.data, "read": s.read, "right": s.right, "images": len(s), "beta": s.beta}
            for s in plan.subjects
        ],
        "shards": {"done": len(state.done), "of": len(plan.shards), "images": plan.shard_size},
        "sha256": plan.digest,
        "versions": {
            name: _distinct(about["versions"][name] for about in abouts) for name in ("fragile_utils", "torch")
        },
        "hardware": _distinct(about["hardware"] for about in abouts),
        "seconds": round(state.seconds),
        "finished": max(about["finished"] for about in abouts),
    }


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return what the attacks did in each cell of the grid.

    Returns
    -------
    DataFrame
        One row for each cell and measure. Columns: those of `grid.Cell`, ``measure``, ``images`` and ``failures`` (how
        many were attacked, and on how many the attack did not succeed), ``mean``, ``low``, ``high`` (95 % bootstrap
        interval of the mean) and ``median``, over the images on which it succeeded; NaN where there are none.
    """
    rows = []
    for cell, group in table.groupby(CELL, sort=False):
        succeeded = group[group["success"]]
        for measure in MEASURES:
            values = succeeded[measure].dropna()
            counts = {"measure": measure, "images": len(group), "failures": len(group) - len(succeeded)}
            rows.append(
                dict(zip(CELL, cell, strict=True))
                | counts
                | mean_interval(values.to_numpy())._asdict()
                | {"median": values.median()}
            )
    return pd.DataFrame(rows)


def _distinct(values: Iterable[str]) -> str:
    return ", ".join(sorted(set(values)))
