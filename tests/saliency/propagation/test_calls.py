"""What works in place, against what it does to memory."""

import pytest
import torch
from torch import Tensor

from fragile_utils.saliency.propagation.calls import works_in_place

OPERATORS = [name for name in dir(Tensor) if name.startswith("__i")]  # of which __invert__, for one, is none


@pytest.mark.parametrize("name", OPERATORS)
def test_the_operators_in_place_are_those_that_write_into_their_first_argument(name):
    function, written = getattr(Tensor, name), False
    for dtype in (torch.float32, torch.int64):
        for others in ([], [torch.tensor([1, 2], dtype=dtype)]):
            x = torch.tensor([5, 3], dtype=dtype)
            try:
                result = function(x, *others)
            except (TypeError, RuntimeError, ValueError):
                continue
            written = written or (isinstance(result, Tensor) and result.data_ptr() == x.data_ptr())
    assert works_in_place(function) == written
