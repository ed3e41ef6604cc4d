"""The loop of a sweep: what is missing is computed, and written as it comes."""

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

from fragile_utils._base import checks
from fragile_utils._base.code import REFUSED, Code
from fragile_utils._base.files import sweep_up
from fragile_utils.experiments._compute import compute
from fragile_utils.experiments.folder import SHARDS, Shard, Status, SweepFolder, begin, duration
from fragile_utils.experiments.parts import Parts
from fragile_utils.experiments.subject import Subject
from fragile_utils.experiments.sweep import MAX_CELLS, Sweep

BATCH_SIZE = 16  # images

log = logging.getLogger(__name__)


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

    def choose(self, parts: Parts, model: str, source: str) -> Subject:
        """Return `Subject.choose`."""
        return Subject.choose(parts, model, source, self.device)

    def check(self, parts: Parts, subjects: Iterable[Subject]) -> None:
        """Refuse networks and images that are not those of the subjects, as `Subject.load` does."""
        for subject in subjects:
            subject.load(parts, "cpu")

    def compute(
        self, parts: Parts, plan: SweepFolder, to_do: list[Shard]
    ) -> Iterator[tuple[Shard, pd.DataFrame, dict[str, Any]]]:
        """Yield each shard as it is finished, with a row for each image and what is known about the computation."""
        for shard in to_do:
            yield shard, *compute(parts, plan.subjects[shard.subject], shard, self.batch_size, self.device)


def run(
    sweep: Sweep,
    folder: str | Path,
    *,
    shard_size: int | None = None,
    executor: InProcess | None = None,
    progress: bool = False,
    allow_code: bool = False,
    trust: bool = False,
    max_cells: int = MAX_CELLS,
) -> Status:
    """Compute what is missing of a sweep in its folder.

    Parameters
    ----------
    sweep : Sweep
    folder : path
        New, or begun with the same sweep: what is finished there is kept, what is damaged is computed again (and said
        through ``logging``). Its networks and images are compared, even where nothing is missing. Two processes on one
        folder compute the same twice; the result is right all the same.
    shard_size : int, optional
        How many images a shard has: 32 for a new folder. What takes minutes is a good size.
    executor : InProcess or cluster.Cluster, optional
        Who computes.
    progress : bool
        Show a progress bar with an estimate of the time left.
    allow_code : bool
        Import and call the functions of your own that the sweep names, ``package.module:function``. Their files are
        known by their SHA-256 from then on: a folder that was begun with one file does not go on with another.
    trust : bool
        Unpickle files of networks that hold more than numbers (`models.load`). They are known by their SHA-256, as are
        the settings in a folder of ``hf:FOLDER``, for what they hold besides the parameters. A folder that was begun
        before these were recorded goes on if the parameters are the same, with a warning.
    max_cells : int
        How many cells the grid, and how many shards the folder may have.

    Returns
    -------
    Status

    Raises
    ------
    ValueError
        If the folder holds other settings, or cannot be written to, or a shard cannot be computed; if a network or its
        images are others than when the folder was begun, or not there; if the sweep names functions of your own, which
        are not allowed; if the grid is too large.
    KeyboardInterrupt
        On Ctrl-C, or when the process is told to end (SIGTERM). Finished shards stay.
    """
    executor = InProcess() if executor is None else executor
    own = sweep.functions
    if own and not allow_code:
        raise ValueError(REFUSED.format(own[0]))
    sweep.check_cells(max_cells)
    parts = Parts(sweep, Code.allow(own, trust))
    with interruptible(), executor:
        plan = begin(parts, folder, shard_size, executor.choose, max_cells)
        sweep_up(plan.folder)
        sweep_up(plan.folder / SHARDS)
        state, _ = plan.look()
        for shard, reason in state.damaged.items():
            again = "left out" if shard in state.blocked else "damaged and computed again"
            log.warning("%s is %s: %s", plan.folder / SHARDS / shard.name, again, reason)
        to_do = [shard for shard in state.to_do if shard not in state.blocked]
        computed = {shard.subject for shard in to_do}  # which compares what it loads
        executor.check(parts, [subject for i, subject in enumerate(plan.subjects) if i not in computed])
        _follow(parts, state, to_do, executor, progress)
        return plan.look()[0]


def _follow(parts: Parts, state: Status, to_do: list[Shard], executor: InProcess, progress: bool) -> None:
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
    with bar, contextlib.closing(executor.compute(parts, plan, to_do)) as finished:
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
    """Not a KeyboardInterrupt: at that, an attack ends and returns the best image found so far."""


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
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
