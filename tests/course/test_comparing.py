"""Comparisons that say what is wrong, and differences as a truth."""

import numpy as np
import pytest
import torch

from fragile_utils.course import finite_differences, same, true

ONE = torch.tensor([1.0, 2.0, -3.0])


@pytest.mark.parametrize(
    "found", [ONE, ONE.double(), ONE.numpy(), ONE.tolist(), tuple(ONE), ONE.clone().requires_grad_()]
)
def test_what_is_equal_passes_whatever_its_type(found):
    same(found, ONE, "it")


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (None, "it: got None; is there a return?"),
        ("text", "it: expected numbers, got a str"),
        pytest.param(object(), "it: expected numbers, got a object", id="an object"),
        (torch.ones(2, 3), "it: expected the shape (3,), got (2, 3)"),
        (ONE * torch.nan, "it: expected finite numbers, got [nan, nan, nan]"),
        (ONE + 0.1, "it: expected [1, 2, -3], got [1.1, 2.1, -2.9]"),
        (-ONE, "it: expected [1, 2, -3], got [-1, -2, 3]; only the sign is wrong"),
        (0.5 * ONE, "; all of them are 0.5 times what is expected"),
        (ONE.square(), "it: this is the square"),
    ],
    ids=str,
)
def test_what_differs_is_told_how(found, said):
    with pytest.raises(AssertionError) as error:
        same(found, ONE, "it", mistakes={"this is the square": ONE.square()})
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("found", "expected", "said"),
    [
        (ONE, 2.0, "it: expected one number, got 3, of shape (3,)"),
        (torch.arange(6).view(3, 2).T, torch.arange(6).view(3, 2), "right, with rows and columns exchanged"),
        (0.12345671, 0.12345678, "it: expected 0.1234568, got 0.1234567; nearly: is it computed in single precision?"),
        (ONE.double() + 1e-12, ONE, "it: expected [1, 2, -3], got [1.000000000001"),
    ],
    ids=["one number", "transposed", "single precision", "the last digits"],
)
def test_what_is_nearly_right_is_told_what_is_left(found, expected, said):
    found = found.double() if isinstance(found, torch.Tensor) else found
    with pytest.raises(AssertionError) as error:
        same(found, expected, "it", within=1e-13)
    assert said in str(error.value)


def test_a_mistake_of_another_shape_is_known_too():
    with pytest.raises(AssertionError, match="it: this is the sum"):
        same(0.0, ONE, "it", mistakes=lambda: {"this is the sum": ONE.sum()})


def test_mistakes_are_computed_only_where_something_is_wrong():
    same(ONE, ONE, "it", mistakes=lambda: 1 / 0)


def test_the_tolerance_is_a_share_of_the_largest():
    same(1e6 * ONE + 0.1, 1e6 * ONE, "it")
    with pytest.raises(AssertionError):
        same(1e-6 * ONE + 1e-7, 1e-6 * ONE, "it")


def test_a_statement_holds_or_says_otherwise():
    true(torch.tensor([True, True]), "no")
    with pytest.raises(AssertionError, match="no"):
        true(torch.tensor([True, False]), "no")


@pytest.mark.parametrize("batched", [False, True])
def test_differences_are_derivatives(batched):
    x = torch.rand(2, 3).double()
    found = finite_differences(
        lambda y: torch.stack([y.sin().sum((-2, -1)), y.prod(-1).sum(-1)], -1), x, batched=batched
    )
    product = x.prod(1, keepdim=True) / x
    np.testing.assert_allclose(found, torch.stack([x.cos(), product]), atol=1e-8)


@pytest.mark.parametrize("found", [[np.inf, 500.0], [500.0, 1.0], [-np.inf, 1.0], [np.inf, np.inf], [np.nan, np.nan]])
def test_a_number_beside_infinity_is_compared_as_any_other(found):
    same([np.inf, 1.0], [np.inf, 1.0], "it")
    same([np.inf, 1.0 + 1e-7], [np.inf, 1.0], "it")
    same([np.inf, np.inf], [np.inf, np.inf], "it")
    with pytest.raises(AssertionError, match=r"it: expected \[inf, 1\], got \[[^;]*$"):
        same(found, [np.inf, 1.0], "it")
    with pytest.raises(AssertionError, match="it: this is the largest"):
        same(found, [np.inf, 1.0], "it", mistakes={"this is the largest": found})
