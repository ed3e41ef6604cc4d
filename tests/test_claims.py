import contextlib
import dataclasses
import html
import io
import json
import math
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
        "(1 to 2; required: at least 1 and at most 2)",
    ),
    "a target": ((np.pi,), {"equal_to": 3.14, "within": 0.01}, "(3.14; required: equal to 3.14 within 0.01)"),
    "every one": ((torch.tensor([True, True]),), {}, "(true; required: true)"),
    "two tensors": ((torch.arange(3),), {"equal_to": torch.arange(3)}, "(0 to 2; required: equal to 0 to 2)"),
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
