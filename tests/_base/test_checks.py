"""Numbers at the door: each is accepted, or refused in one line by its name."""

import sys
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fragile_utils._base import checks, schema
from fragile_utils._base.seeds import normal

ANYTHING = (
    st.integers(-(10**400), 10**400)
    | st.sampled_from([2**53, 2**63 - 1, 2**63, 2**64, -(2**63), -(2**63) - 1, 10**5000, True, None, "1", 1j, [1]])
    | st.floats()
    | st.fractions()
    | st.sampled_from([np.float32(0.5), np.int64(3), np.float64("nan"), Fraction(1, 10**400), torch.ones(30, 30)])
)
CHECKS = {
    "positive": (checks.positive, lambda x: x > 0),
    "non_negative": (checks.non_negative, lambda x: x >= 0),
    "below 1": (lambda value, name: checks.positive(value, name, below=1), lambda x: 0 < x < 1),
    "budget": (checks.budget, lambda x: 0 < x <= 1),
    "count": (checks.count, lambda x: 1 <= x <= schema.LARGEST),
    "seed": (checks.seed, lambda x: -(2**63) <= x < 2**63),
}


@pytest.mark.parametrize("name", CHECKS)
@settings(max_examples=200, deadline=None, derandomize=True)
@given(value=ANYTHING)
def test_a_number_is_accepted_or_refused_in_a_line(name, value):
    check, fits = CHECKS[name]
    made, said = None, None
    try:
        made = check(value, "x")
    except ValueError as error:
        said = str(error)
    if said is None:
        assert made in (value, float(value))
        assert fits(made)
        assert isinstance(made, int if name in ("count", "seed") else float)
    else:
        assert said.startswith("x: expected ")
        assert ", got " in said or "levels give" in said
        assert "\n" not in said
        assert len(said) < 400


@pytest.mark.parametrize("seed", [2**63 - 1, -(2**63), np.int64(7)])
def test_what_is_a_seed_is_one_of_pytorch(seed):
    for image in range(3):
        assert normal((2,), checks.seed(seed) + image).shape == (2,)


def test_a_count_of_numpy_is_refused_with_what_to_do():
    with pytest.raises(ValueError, match=r"n: expected a whole number from 1 to 5, got .*3.*; convert with int\(\)"):
        checks.count(np.int64(3), "n", at_most=5)


def test_the_largest_float_is_a_number():
    assert checks.positive(sys.float_info.max, "x") == sys.float_info.max
