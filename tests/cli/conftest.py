"""What the tests of the commands share."""

import pytest
import sweeps

from fragile_utils.experiments import _compute


@pytest.fixture(autouse=True)
def forget():
    _compute._loaded.cache_clear()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of a finished sweep."""
    folder = tmp_path_factory.mktemp("finished")
    sweeps.run(sweeps.small(about="a small sweep"), folder, shard_size=4)
    return folder
