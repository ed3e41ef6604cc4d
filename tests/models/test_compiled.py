"""Compiled code runs as it is written while it has to, and as it is compiled before and after."""

import threading
import time

import pytest
import torch
from torch import nn

from fragile_utils.models.compiled import is_compiled, uncompiled
from fragile_utils.models.surrogate import softplus_surrogate


@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_what_is_compiled_is_told_from_what_is_not():
    inside, itself = nn.Linear(3, 3), nn.Linear(3, 3)
    itself.compile(backend="eager")
    compiled = torch.compile(inside, backend="eager")
    assert [is_compiled(module) for module in (compiled, itself, inside, nn.ReLU())] == [True, True, False, False]


@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_code_that_is_compiled_runs_as_it_is_written_within():
    compiled = torch.compile(lambda x: x + torch.compiler.is_compiling(), backend="eager")
    one = torch.ones(1)
    assert compiled(one) == 2
    with uncompiled(), uncompiled():
        assert compiled(one) == 1
    assert compiled(one) == 2


def test_passes_of_several_threads_leave_the_compiler_as_it_was():
    class Slow(nn.Module):
        def __init__(self, seconds):
            super().__init__()
            self.seconds = seconds

        def forward(self, x):
            time.sleep(self.seconds)
            return torch.relu(x)

    threads = [
        threading.Thread(target=softplus_surrogate(Slow(seconds)), args=(torch.rand(1, 3, 4, 4),))
        for seconds in (0.1, 0.3)
    ]
    for thread in threads:
        thread.start()
        time.sleep(0.05)
    for thread in threads:
        thread.join()
    assert torch._dynamo.eval_frame._stance.stance == "default"
