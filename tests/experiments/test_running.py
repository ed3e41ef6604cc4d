"""A sweep that runs, and what survives kills and full disks."""

import collections
import errno
import itertools
import json
import os
import random
import signal
import time

import pandas as pd
import pytest
import sweeps
import torch
from sweeps import CELL, files, same

from fragile_utils import attacks, experiments
from fragile_utils._base import files as whole_files

# --- The rows --------------------------------------------------------------------------------------------------------


def test_there_is_one_row_for_each_image_and_cell(finished):
    settings, table = experiments.results(finished)
    sweep = sweeps.small()
    cells = list(itertools.product(["gradient", "integrated-gradients"], ["random-sign", "topk"], [4.0, 16.0]))
    assert list(table.groupby(CELL[2:], sort=False).groups) == cells
    assert table.groupby(CELL)["index"].apply(list).tolist() == [list(range(7))] * len(cells)
    assert len(files(finished)) == 3 * len(cells)
    assert settings["sweep"] == {name: value for name, value in sweep.to_dict().items() if name != "about"}
    assert settings["shards"] == {"done": 24, "of": 24, "images": 3}
    assert settings["versions"]["torch"] == torch.__version__.split("+")[0]
    json.dumps(settings, allow_nan=False)


NOISY = {"name": "smoothgrad", "samples": 2, "sigma": 0.3, "shared": False}  # noise of its own for each image


@pytest.mark.parametrize(
    "changes",
    [
        {"methods": "gradient", "attacks": "random-sign"},
        {"methods": "gradient", "random_start": True, "steps": 1},
        {"methods": [NOISY], "attacks": "random-sign"},
        {"methods": [NOISY], "attacks": "topk", "steps": 1},
    ],
    ids=str,
)
def test_rows_do_not_depend_on_shards_and_batches(changes, tmp_path):
    sweep = sweeps.small(**changes, budgets=16)
    sweeps.run(sweep, tmp_path / "a", shard_size=7)
    sweeps.run(sweep, tmp_path / "b", shard_size=4, executor=experiments.InProcess(batch_size=3))
    a, b = sweeps.rows(tmp_path / "a"), sweeps.rows(tmp_path / "b")
    pd.testing.assert_frame_equal(a, b, check_exact=False, rtol=1e-4, atol=1e-5)


def test_several_networks_and_data_sets(tmp_path):
    sweep = sweeps.small(
        models=["sweeps:network", "sweeps:plain_network"],
        data=["sweeps:images", "sweeps:many_images"],
        images=2,
        methods="gradient",
        attacks="random-sign",
        budgets=8,
    )
    sweeps.run(sweep, tmp_path)
    table = sweeps.rows(tmp_path)
    assert table[["model", "data", "index"]].apply(tuple, axis=1).tolist() == [
        (model.name, source, i) for model in sweep.models for source in sweep.data for i in (0, 1)
    ]


def test_progress_is_shown_when_asked(finished, tmp_path, capsys):
    sweeps.run(sweeps.small(methods="gradient"), tmp_path, progress=True)
    assert "4/4 shards" in capsys.readouterr().err
    assert whole_files.UNFINISHED not in {path.suffix for path in files(tmp_path)}


# --- Interrupts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_sweep_and_not_only_an_attack(number, finished, tmp_path, monkeypatch):
    calls, evaluate = itertools.count(), attacks.MapProblem.evaluate

    def interrupted(problem, x):
        if next(calls) == 16:  # in the middle of an attack of three steps
            os.kill(os.getpid(), number)
        return evaluate(problem, x)

    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(attacks.MapProblem, "evaluate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sweeps.run(sweeps.small(), tmp_path, shard_size=3)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert 0 < len(experiments.status(tmp_path).done) < 24
    sweeps.run(sweeps.small(), tmp_path)
    same(sweeps.rows(tmp_path), sweeps.rows(finished))


def test_a_full_disk_ends_the_sweep_with_a_message_and_it_goes_on_when_there_is_room(finished, tmp_path, monkeypatch):
    calls = itertools.count()

    def sometimes_full(_):
        if next(calls) >= 12:  # each file is synchronised, and its folder
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", sometimes_full)
    with pytest.raises(ValueError, match=rf"cannot write {tmp_path}.*: No space left on device"):
        sweeps.run(sweeps.small(), tmp_path, shard_size=3)
    monkeypatch.undo()
    assert len(experiments.status(tmp_path).done) == len(files(tmp_path)) == 5
    sweeps.run(sweeps.small(), tmp_path)
    same(sweeps.rows(tmp_path), sweeps.rows(finished))


# --- SIGKILL ---------------------------------------------------------------------------------------------------------


def killed_at_random(kills, fork, tmp_path, steps):
    """Kill a sweep `kills` times, let it finish, and compare it with an undisturbed one.

    Where a sweep reaches its end between two kills, it is compared too, and the kills go on with another.
    """
    sweep = sweeps.small(images=24, methods="gradient", steps=steps)
    fork(sweeps.run_alone, sweep, tmp_path / "warm", 24).join()  # the server's imports
    began = time.perf_counter()
    process = fork(sweeps.run_alone, sweep, tmp_path / "undisturbed", 3)
    while not (tmp_path / "undisturbed" / "shards").exists():
        time.sleep(0.005)
    start = time.perf_counter() - began  # until there is something to lose
    process.join()
    work = time.perf_counter() - began - start
    assert process.exitcode == 0
    undisturbed = sweeps.rows(tmp_path / "undisturbed")

    def finished(folder):
        return len([*(folder / "shards").glob("[0-9]*")])

    moments = random.Random(0)
    folders, found = [tmp_path / "disturbed_0"], []
    while True:
        folder = folders[-1]
        before, process = finished(folder), fork(sweeps.run_alone, sweep, folder, 3)
        if len(found) == kills:  # undisturbed from here
            process.join()
        elif moments.random() < 0.2:  # while it starts
            process.join(moments.uniform(0, start))
        else:  # between a shard and the next
            while finished(folder) == before and process.is_alive():
                time.sleep(0.001)
            process.join(moments.uniform(0, 0.6 * work / 32))
        process.kill()
        process.join()
        if process.exitcode == -signal.SIGKILL:
            found.append((folder, finished(folder)))
            continue
        assert process.exitcode == 0
        table = sweeps.rows(folder)
        assert collections.Counter(table.groupby([*CELL, "index"]).size()) == {1: 4 * 24}
        same(table, undisturbed)
        if len(found) == kills:
            break
        folders.append(tmp_path / f"disturbed_{len(folders)}")
    assert len(folders) <= 3, "it mostly finished before it could be killed"
    assert len(set(found)) > kills / 4, "the kills came too early to interrupt anything"


def test_a_sweep_killed_4_times_ends_with_the_rows_of_an_undisturbed_one(fork, tmp_path):
    killed_at_random(4, fork, tmp_path, steps=20)


@pytest.mark.slow
def test_a_sweep_killed_20_times_ends_with_the_rows_of_an_undisturbed_one(fork, tmp_path):
    killed_at_random(20, fork, tmp_path, steps=150)


def test_a_sweep_killed_between_writing_and_renaming_loses_that_shard_only(fork, finished, tmp_path):
    process = fork(sweeps.run_and_die_while_writing, sweeps.small(), tmp_path, 3)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    state = experiments.status(tmp_path)
    assert (len(state.done), len(state.damaged)) == (4, 0)
    assert len([path for path in files(tmp_path) if path.name.endswith(".part")]) == 1
    sweeps.run(sweeps.small(), tmp_path)
    same(sweeps.rows(tmp_path), sweeps.rows(finished))


def test_a_disk_that_takes_no_more_is_reported(fork, finished, tmp_path):
    sweeps.run(sweeps.small(), tmp_path / "sweep", shard_size=3)
    files(tmp_path / "sweep")[0].unlink()
    process = fork(sweeps.run_on_a_small_disk, sweeps.small(), tmp_path / "sweep", tmp_path / "said")
    process.join()
    assert "File too large" in (tmp_path / "said").read_text()
    assert len(files(tmp_path / "sweep")) == 23
    sweeps.run(sweeps.small(), tmp_path / "sweep")
    same(sweeps.rows(tmp_path / "sweep"), sweeps.rows(finished))
