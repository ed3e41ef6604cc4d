"""What the tests of experiments share."""

import multiprocessing

import pytest
import sweeps
import torch

from fragile_utils.experiments import _compute


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """With several, sums are rounded in whatever order the threads take."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def forget():
    """Begin as a new process would, with nothing loaded; a test may call it again."""
    _compute._loaded.cache_clear()
    return _compute._loaded.cache_clear


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of an undisturbed sweep, in shards of 3."""
    folder = tmp_path_factory.mktemp("undisturbed")
    sweeps.run(sweeps.small(), folder, shard_size=3)
    return folder


@pytest.fixture
def fork(monkeypatch):
    """Start processes that have imported everything already, from a server that has not computed anything."""
    monkeypatch.setenv("PYTHONPATH", sweeps.PYTHONPATH)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sweeps", "audits"])

    def start(function, *arguments):
        process = context.Process(target=function, args=arguments)
        process.start()
        return process

    return start
