"""A sweep on Dask: the same table as one process, whoever computes, and whatever becomes of a worker."""

import builtins
import json
import os
import signal
import threading
import time

import pandas as pd
import pytest
import sweeps

from fragile_utils import experiments
from fragile_utils._base.code import Code
from fragile_utils.experiments import cluster

distributed = pytest.importorskip("distributed", reason="Dask is not installed: pip install 'fragile_utils[cluster]'")


def same(a, b):
    pd.testing.assert_frame_equal(sweeps.rows(a), sweeps.rows(b), check_exact=True)


@pytest.fixture(scope="module")
def address():
    """The scheduler of two workers that are threads of this process."""
    with distributed.LocalCluster(n_workers=2, threads_per_worker=2, processes=False, dashboard_address=None) as local:
        yield local.scheduler_address


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The folder of a sweep that one process has computed."""
    folder = tmp_path_factory.mktemp("alone")
    sweeps.run(sweeps.small(), folder, shard_size=3)
    return folder


def test_a_cluster_gives_the_table_of_one_process(address, alone, tmp_path):
    state = sweeps.run(sweeps.small(), tmp_path, shard_size=3, executor=cluster.Cluster(address))
    assert state.to_do == []
    same(tmp_path, alone)


def test_a_cluster_goes_on_where_a_process_stopped(address, alone, tmp_path):
    sweeps.run(sweeps.small(), tmp_path, shard_size=3)
    files = sorted((tmp_path / "shards").iterdir())
    kept = [path.stat().st_mtime_ns for path in files[5:]]
    for path in files[:5]:
        path.unlink()
    sweeps.run(sweeps.small(), tmp_path, executor=cluster.Cluster(address))
    assert [path.stat().st_mtime_ns for path in sorted((tmp_path / "shards").iterdir())[5:]] == kept
    same(tmp_path, alone)


def test_an_error_of_a_worker_is_that_of_the_sweep(address, tmp_path):
    with pytest.raises(ValueError, match="expected a network with attention"):
        sweeps.run(sweeps.small(methods="rollout"), tmp_path, executor=cluster.Cluster(address))
    with pytest.raises(ValueError, match=r"images: expected 41 that sweeps:network gets right, got 40"):
        sweeps.run(sweeps.small(images=41), tmp_path / "other", executor=cluster.Cluster(address))


def test_a_worker_calls_only_what_the_sweep_may_from_the_same_file(address):
    sweep = sweeps.small()
    other = Code(tuple((name, "0" * 64) for name in sweep.functions))
    with cluster.Cluster(address) as workers:
        with pytest.raises(ValueError, match="models: sweeps:network is code of your own, which is imported only with"):
            workers.choose(experiments.Parts(sweep), *sweep.subjects[0])
        with pytest.raises(ValueError, match="models: the file of sweeps:network is not the one that was allowed"):
            workers.choose(experiments.Parts(sweep, other), *sweep.subjects[0])
        assert len(workers.choose(sweeps.parts(sweep), *sweep.subjects[0])) == 7


def test_nothing_is_started_where_nothing_is_to_do(alone, monkeypatch):
    monkeypatch.setattr(distributed, "LocalCluster", lambda **_: pytest.fail("a cluster was started"))
    assert sweeps.run(sweeps.small(), alone, executor=cluster.Cluster("local:4")).to_do == []


def test_what_is_finished_is_compared(address, alone, monkeypatch):
    assert sweeps.run(sweeps.small(), alone, executor=cluster.Cluster(address)).to_do == []
    monkeypatch.setattr(sweeps, "many_images", sweeps.images)
    for workers in (address, "local:4"):
        with pytest.raises(ValueError, match="data: sweeps:many_images has other images than when the sweep began"):
            sweeps.run(sweeps.small(), alone, executor=cluster.Cluster(workers))


@pytest.mark.parametrize("scheduler", ["", "host", "local", "local:", "local:x", "8786"])
def test_what_is_no_address_is_refused(scheduler):
    with pytest.raises(ValueError, match=r"scheduler: expected an address such as tcp://HOST:8786, or local:N, got"):
        cluster.Cluster(scheduler)


def test_wrong_numbers_are_refused():
    with pytest.raises(ValueError, match=r"scheduler: local:N: expected a whole number from 1 to 256, got 0"):
        cluster.Cluster("local:0")
    with pytest.raises(ValueError, match="batch_size: expected a whole number"):
        cluster.Cluster("local:1", batch_size=0)


def test_a_scheduler_that_does_not_answer_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "CONNECT", 0.2)
    with pytest.raises(ValueError, match=r"scheduler: nobody answers at tcp://127\.0\.0\.1:9"):
        sweeps.run(sweeps.small(), tmp_path, executor=cluster.Cluster("tcp://127.0.0.1:9"))
    assert list(tmp_path.iterdir()) == []


def test_without_dask_it_says_what_to_install(tmp_path, monkeypatch):
    load = builtins.__import__

    def without(name, *rest):
        if name in ("dask", "distributed"):
            raise ImportError(name)
        return load(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ValueError, match=r"pip install 'fragile_utils\[cluster\]'"):
        sweeps.run(sweeps.small(), tmp_path, executor=cluster.Cluster("local:2"))


# --- Processes -------------------------------------------------------------------------------------------------------


@pytest.fixture
def importable(monkeypatch):
    """Let processes import what this one can."""
    monkeypatch.setenv("PYTHONPATH", sweeps.PYTHONPATH)


@pytest.mark.slow
def test_four_processes_give_the_table_of_one(importable, alone, tmp_path, fragile):
    config = tmp_path / "sweep.json"
    config.write_text(json.dumps(sweeps.small().to_dict()))
    status, out, err = fragile(
        *("sweep", config, "--allow-code", "--out", tmp_path / "four", "--shard-size", 3, "--scheduler", "local:4")
    )
    assert (status, err) == (0, "")
    assert "24 of 24 shards done" in out
    same(tmp_path / "four", alone)


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_no_row(importable, tmp_path):
    sweep = sweeps.small(images=24, methods="gradient", steps=100)
    sweeps.run(sweep, tmp_path / "alone", shard_size=3)
    executor = cluster.Cluster("local:2")
    killed = []

    def kill_workers():
        for files in (2, 8, 14):  # of 32
            while len([*tmp_path.glob("killed/shards/[0-9]*")]) < files:
                time.sleep(0.01)
            workers = set()
            while not workers:  # one that was killed before may not be back yet
                workers = {*executor.client.run(os.getpid, on_error="ignore").values()} - {*killed}
            killed.append(min(workers))
            os.kill(killed[-1], signal.SIGKILL)

    murderer = threading.Thread(target=kill_workers)
    murderer.start()
    state = sweeps.run(sweep, tmp_path / "killed", shard_size=3, executor=executor)
    murderer.join()
    assert len(set(killed)) == 3
    assert (len(state.done), state.to_do) == (32, [])
    same(tmp_path / "killed", tmp_path / "alone")
