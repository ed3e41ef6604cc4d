import contextlib
import dataclasses
import html
import io
import json
import math
import pickle
import re
import sys

import numpy as np
import pytest
import torch

from fragile_utils import claims
from fragile_utils.claims import ClaimError, check

TRUE = {
    "a truth": ((True,), {}, "(true; required: true)"),
    "an upper bound": ((0.02,), {"at_most": 0.02}, "(0.02; required: at most 0.02)"),
    "both bounds": (
        (torch.tensor([1.0, 2.0]),),
        {"at_least": 1, "at_most": 2},
        "(1, 2; required: at least 1 and at most 2)",
    ),
    "a target": ((np.pi,), {"equal_to": 3.14, "within": 0.01}, "(3.14; required: equal to 3.14 within 0.01)"),
    "every one": ((torch.tensor([True, True]),), {}, "(true; required: true)"),
    "a few": (([3, 2, -0.0],), {"equal_to": [3, 2, 0]}, "(3, 2, 0; required: equal to 3, 2, 0)"),
    "many": ((torch.arange(5),), {"at_most": 4}, "(0 to 4; required: at most 4)"),
    "as many": (
        (torch.arange(5),),
        {"equal_to": torch.tensor([0, 1, 2, 3, 4.5]), "within": 0.5},
        "(0 to 4, largest difference 0.5; required: equal to the other within 0.5)",
    ),
}
FALSE = {
    "false": ((False,), {}),
    "one is false": ((torch.tensor([True, False]),), {}),
    "above": ((0.021,), {"at_most": 0.02}),
    "one below": ((torch.tensor([0.5, 2.0]),), {"at_least": 1}),
    "off target": ((3.2,), {"equal_to": 3.14, "within": 0.01}),
    "NaN": ((math.nan,), {"at_most": 1.0}),
    "NaN without bounds": ((math.nan,), {}),
    "one NaN": ((torch.tensor([0.1, math.nan]),), {"at_least": 0}),
    "nothing": ((torch.tensor([]),), {"at_most": 1.0}),
}


MEANINGLESS = {
    "a tolerance of nothing": ((3.0,), {"within": 0.1}, "within: expected together with equal_to"),
    "a tolerance of a bound": ((3.0,), {"within": 0.1, "at_most": 4}, "within: expected together with equal_to"),
    "a tolerance below 0": ((1.0,), {"equal_to": 1.0, "within": -1}, "within: expected a number, 0 or above, got -1"),
    "a complex number": ((np.array([1 + 5j]),), {"equal_to": 1}, "value: expected numbers, or true or false, got comp"),
    "a complex target": ((1.0,), {"equal_to": 1j}, "equal_to: expected numbers, or true or false, got complex128"),
    "None": ((None,), {}, "value: expected numbers, or true or false, got None"),
    "text": (("no",), {}, "value: expected numbers, or true or false, got 'no'"),
    "one for five": ((torch.ones(1),), {"equal_to": torch.ones(5)}, "equal_to: expected one number, or one for each"),
    "one for none": ((torch.ones(1),), {"equal_to": torch.ones(0)}, "equal_to: expected one number, or one for each"),
    "rows for columns": ((np.ones(3),), {"equal_to": np.ones((3, 1))}, r"each of shape \(3,\), got shape \(3, 1\)"),
    "two for three": ((np.ones(3),), {"equal_to": [1, 1]}, r"expected one number, or one for each of shape \(3,\)"),
}


@pytest.mark.parametrize("case", MEANINGLESS)
def test_what_claims_nothing_is_refused(case, capsys):
    values, bounds, said = MEANINGLESS[case]
    before = len(claims.made)
    with pytest.raises(ValueError, match=said):
        check("water is wet", *values, **bounds)
    assert (capsys.readouterr().out, len(claims.made)) == ("", before)


def test_whole_numbers_are_compared_as_they_are():
    """2**53 + 1 is the first that no float64 holds."""
    check("they are equal", 2**53 + 1, equal_to=2**53 + 1)
    check("they are equal", 2**90, equal_to=2**90)
    check("they are near", np.uint8([3, 5]), equal_to=np.uint8([5, 3]), within=2)
    for found, wanted in ((2**53 + 1, 2**53), (np.int64([2**62 + 1]), 2**62), (2**90, 2**90 + 1)):
        with pytest.raises(ClaimError):
            check("they are equal", found, equal_to=wanted)


def test_one_number_may_be_that_of_all_and_rows_those_of_each_row():
    check("all are 1", torch.ones(5), equal_to=1)
    check("all are 1", torch.ones(5), equal_to=torch.ones(1))
    check("each row is", [[1, 2], [1, 2]], equal_to=[1, 2])
    check("each column is", [[1, 1], [2, 2]], equal_to=[[1], [2]])
    check("bfloat16 is read", torch.ones(2, dtype=torch.bfloat16), equal_to=torch.ones(2, dtype=torch.bfloat16))


@pytest.mark.parametrize("case", TRUE)
def test_a_true_claim_prints_what_was_checked(case, capsys):
    values, bounds, shown = TRUE[case]
    check("water is wet", *values, **bounds)
    assert capsys.readouterr().out == f"✓ water is wet {shown}\n"


def test_a_claim_is_printed_where_there_is_no_tick():
    content = io.BytesIO()
    with contextlib.redirect_stdout(io.TextIOWrapper(content, encoding="cp1252", newline="")) as out:
        check("water is wet", True)
        out.flush()
    assert content.getvalue() == b"? water is wet (true; required: true)\n"


@pytest.mark.parametrize("case", FALSE)
def test_a_false_claim_stops(case, capsys):
    values, bounds = FALSE[case]
    with pytest.raises(ClaimError, match="water is dry"):
        check("water is dry", *values, **bounds)
    assert capsys.readouterr().out == ""


def test_a_false_claim_says_what_was_found():
    with pytest.raises(ClaimError) as raised:
        check("water is dry", [0.5, 2.0], at_most=1)
    error = pickle.loads(pickle.dumps(raised.value))
    claim = error.claim
    assert (claim.statement, claim.measured, claim.required) == ("water is dry", "0.5, 2", "at most 1")
    assert str(error) == "water is dry: got 0.5, 2; required: at most 1"


def test_in_a_notebook_it_is_a_paragraph_of_the_page(monkeypatch):
    shown = []

    class Module:
        class display:
            display = staticmethod(lambda data, raw: shown.append(data))

        @staticmethod
        def get_ipython():
            return type("Shell", (), {"kernel": True})()

    monkeypatch.setitem(sys.modules, "IPython", Module)
    monkeypatch.setitem(sys.modules, "IPython.display", Module.display)
    check("1 < 2", True)
    page = shown[0]["text/html"]
    assert page.endswith("<summary>✓ 1 &lt; 2</summary>true; required: true</details>")
    record = re.fullmatch(r'<details class="fragile-check" data-claim="([^"]*)">.*', page)[1]
    assert json.loads(html.unescape(record)) == dataclasses.asdict(claims.made[-1])
    assert shown[0]["text/plain"] == "✓ 1 < 2 (true; required: true)"


SLACKS = {
    "at most, positive": ((0.1,), {"at_most": 0.4}, 4),
    "at most, negative": ((-0.4,), {"at_most": -0.1}, 4),
    "at least, positive": ((0.4,), {"at_least": 0.1}, 4),
    "at least, negative": ((-0.1,), {"at_least": -0.4}, 4),
    "the value that is closest counts": ((torch.tensor([0.2, 0.4]),), {"at_least": 0.1}, 2),
    "the looser of two bounds counts": ((0.4,), {"at_least": 0.1, "at_most": 0.5}, 4),
    "just": ((0.4,), {"at_most": 0.4}, 1),
    "a sign, from above": ((-0.4,), {"at_most": 0}, math.inf),
    "a sign, from below": ((0.4,), {"at_least": -0.1}, math.inf),
    "zero": ((0.0,), {"at_most": 0.1}, math.inf),
    "a tolerance": ((3.2,), {"equal_to": 3.0, "within": 0.5}, 2.5),
    "a tolerance of equals": ((3.0,), {"equal_to": 3.0, "within": 0.5}, math.inf),
    "rounding": ((3.0,), {"equal_to": 3.0, "within": 1e-6}, None),
    "a truth": ((True,), {}, None),
}


@pytest.mark.parametrize("case", SLACKS)
def test_slack_says_how_far_the_bound_is_from_what_was_measured(case):
    values, bounds, expected = SLACKS[case]
    check("water is wet", *values, **bounds, because="it rains")
    assert claims.made[-1].slack == (expected if expected is None else pytest.approx(expected))
    assert claims.made[-1].because == "it rains"
    assert json.loads(claims.made[-1].to_json())["statement"] == "water is wet"


def test_a_false_claim_is_not_among_those_made():
    before = len(claims.made)
    with pytest.raises(ClaimError):
        check("water is dry", False)
    assert len(claims.made) == before
