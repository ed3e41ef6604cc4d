"""A sweep on a Dask cluster: one shard a task, computed again elsewhere when its worker dies.

Workers need the package, the data (each finds its own through FRAGILE_DATA) and nothing else: no folder is shared. They
call functions of the reader's own only where the sweep was allowed to, and from a file of the same contents. The
rows of a shard, a few kilobytes, come back to the process that runs the sweep, which writes them: so there is one
writer, as without a cluster, and a full disk is noticed where it can be said. What was being computed when that process
is killed is lost, and nothing more.

Dask comes with ``pip install 'fragile_utils[cluster]'`` and is imported when it is needed.
"""

import logging
import os
import re
import signal
import threading
import uuid
from collections.abc import Iterable, Iterator
from multiprocessing import resource_tracker
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

from fragile_utils._base import checks, schema
from fragile_utils.experiments._compute import compute
from fragile_utils.experiments.folder import Shard, SweepFolder
from fragile_utils.experiments.parts import Parts
from fragile_utils.experiments.subject import Subject

MOST = 256  # processes on this machine
CONNECT, START = 20, 120  # seconds to wait for a scheduler, and for processes of one's own
# glibc keeps freed memory instead of returning it page by page, as in the Makefile; Dask would do the opposite.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**32)}

log = logging.getLogger(__name__)


class Cluster:
    """Computes on a Dask cluster; an ``executor`` for `experiments.run`.

    Parameters
    ----------
    scheduler : str
        The address of a scheduler, ``tcp://HOST:8786``; or ``local:N``, for a cluster of N processes on this machine,
        which share its processor cores and last as long as the sweep.
    device : str
        As each worker understands it; "auto" is a GPU where it sees one.
    batch_size : int
        How many images a worker attacks at a time, at most.

    Raises
    ------
    ValueError
        If the address is none. When it is used: if Dask is not installed or nobody answers.
    """

    def __init__(self, scheduler: str, device: str = "auto", batch_size: int = 16) -> None:
        local = re.fullmatch(r"local:(\d{1,9})", scheduler)
        if not local and "://" not in scheduler:
            raise ValueError(f"scheduler: expected an address such as tcp://HOST:8786, or local:N, got {scheduler!r}")
        self.scheduler = scheduler
        self.processes = checks.count(int(local[1]), "scheduler: local:N", MOST) if local else None
        self.device = device
        self.batch_size = checks.count(batch_size, "batch_size")
        self._cluster = self._client = None

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *_: object) -> None:
        for opened in (self._client, self._cluster):
            if opened is not None:
                opened.close()
        self._cluster = self._client = None

    @property
    def workers(self) -> int:
        """How many workers there are just now, at least 1."""
        return max(1, len(self.client.nthreads()))

    @property
    def client(self) -> Any:
        """The connection to the scheduler, a ``distributed.Client``; opened when it is first asked for."""
        if self._client is None:
            try:
                import dask
                import distributed
            except ImportError as error:
                raise ValueError("a cluster needs Dask: pip install 'fragile_utils[cluster]'") from error
            try:
                if self.processes:
                    self._start(dask, distributed)
                else:
                    self._client = distributed.Client(self.scheduler, timeout=CONNECT, set_as_default=False)
            except (OSError, TimeoutError) as error:
                raise ValueError(f"scheduler: nobody answers at {self.scheduler}: {error}") from error
            if not self._client.nthreads():
                log.warning("there are no workers at %s yet: waiting for the first", self.scheduler)
        return self._client

    def _start(self, dask: Any, distributed: Any) -> None:
        """Start a scheduler in this process, and workers in processes of their own."""
        threads = str(max(1, (os.cpu_count() or 1) // self.processes))
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        environment = ALLOCATOR | dict.fromkeys(names, threads)
        with dask.config.set({"distributed.nanny.pre-spawn-environ": environment}):
            self._cluster = distributed.LocalCluster(
                n_workers=0,
                threads_per_worker=1,
                memory_limit=None,
                dashboard_address="127.0.0.1:0",
                silence_logs=logging.CRITICAL,
            )
            self._cluster.sync(_block_interrupts)
            self._cluster.scale(self.processes)
            self._client = distributed.Client(self._cluster, timeout=CONNECT, set_as_default=False)
            self._client.wait_for_workers(self.processes, timeout=START)

    def choose(self, parts: Parts, model: str, source: str) -> Subject:
        """Return `Subject.choose`, as a worker finds it."""
        return self.client.submit(_choose, parts, model, source, self.device, pure=False).result()

    def check(self, parts: Parts, subjects: Iterable[Subject]) -> None:
        """Refuse networks and images that are not those of the subjects, as a worker finds them.

        Processes of this machine would find what this one finds, and are not started for it.
        """
        if self.processes:
            for subject in subjects:
                _check(parts, subject)
            return
        for checked in [self.client.submit(_check, parts, subject, pure=False) for subject in subjects]:
            checked.result()

    def compute(
        self, parts: Parts, plan: SweepFolder, to_do: list[Shard]
    ) -> Iterator[tuple[Shard, pd.DataFrame, dict[str, Any]]]:
        """Yield each shard as it is finished, with a row for each image and what is known about the computation.

        Raises
        ------
        ValueError
            What a worker raised; when the scheduler is lost; at the end, if shards were given up because the workers
            that had them died time after time.
        """
        if not to_do:
            return
        from distributed import CancelledError, KilledWorker, as_completed

        client, run = self.client, uuid.uuid4().hex[:8]
        subjects = {
            i: client.submit(_same, plan.subjects[i], key=f"subject-{i}-{run}") for i in {s.subject for s in to_do}
        }
        waiting = {}
        for shard in to_do:
            given = (parts, subjects[shard.subject], shard, self.batch_size, self.device)
            waiting[client.submit(_compute, *given, key=f"{shard.name}-{run}")] = shard
        given_up = []
        try:
            for future in as_completed(list(waiting), loop=client.loop):
                shard = waiting.pop(future)
                try:
                    table, about = future.result()
                except KilledWorker:
                    given_up.append(shard)
                except CancelledError as error:
                    raise ValueError(f"scheduler: lost {self.scheduler}; what is finished is kept") from error
                else:
                    yield shard, table, about
        finally:
            client.cancel(list(waiting))
        if given_up:
            names = schema.listed(shard.name for shard in given_up)
            raise ValueError(f"{len(given_up)} shards were given up, their workers died too often: {names}")


async def _block_interrupts() -> None:
    """Keep Ctrl-C from the worker processes that this thread starts: it is for the process that runs the sweep."""
    if hasattr(signal, "pthread_sigmask"):
        resource_tracker.ensure_running()  # which, when it is started, unblocks what was blocked
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # children inherit what their thread blocks


_turn = threading.Lock()  # shards take turns in a worker of several threads: they share a GPU, and settings of PyTorch


def _compute(
    parts: Parts, subject: Subject, shard: Shard, batch_size: int, device: str
) -> tuple[pd.DataFrame, dict[str, Any]]:
    with _turn:
        _without_semaphore()
        return compute(parts, subject, shard, batch_size, device)


def _choose(parts: Parts, model: str, source: str, device: str) -> Subject:
    with _turn:
        _without_semaphore()
        return Subject.choose(parts, model, source, device)


def _check(parts: Parts, subject: Subject) -> None:
    with _turn:
        _without_semaphore()
        subject.load(parts, "cpu")


def _without_semaphore() -> None:
    """Keep tqdm from making a lock between processes, of which a worker that is killed leaves a warning behind."""
    if not hasattr(tqdm, "_lock"):
        tqdm.set_lock(threading.RLock())


def _same(subject: Subject) -> Subject:
    """A task of its own, so that its value goes to each worker once, and again to those that come later."""
    return subject
