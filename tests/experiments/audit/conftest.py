"""What the tests of audits share."""

import pytest
import torch
from audits import code, small

from fragile_utils.experiments import audit


@pytest.fixture(scope="session")
def found(tmp_path_factory):
    """What a small audit found, on one thread as `one_thread` has it, and its folder."""
    folder, before = tmp_path_factory.mktemp("audit") / "report", torch.get_num_threads()
    methods = ["gradient", "grad-cam", {"name": "integrated-gradients", "steps": 3}]
    torch.set_num_threads(1)
    try:
        plan = audit.plan(small(methods=methods), code(), "cpu")
        return audit.follow(plan, folder, code()), folder
    finally:
        torch.set_num_threads(before)


@pytest.fixture(scope="session")
def summary(found):
    return audit.summarise(found[0])
