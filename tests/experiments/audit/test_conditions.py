"""Conditions on an audit: what they say, and what of a report they look at."""

import pytest

from fragile_utils.experiments.audit.conditions import Condition, parse

BUDGETS = (0.5, 1.0, 2.0, 8.0)
EVERYDAY = {"jpeg": 0.6, "shift": 0.1, "brightness": 0.9, "resize": 0.7}
LEFT = {  # of the top pixels, at each budget
    "topk": (0.8, 0.2, 0.35, 0.9),  # at one level less than at two: there the attack failed on some images
    "mass-center": (0.9, 0.7, 0.5, 0.05),
    "random-sign": (0.95, 0.9, 0.85, 0.4),
}


def measured(value):
    return {"topk_intersection": {"mean": value}, "rank_correlation": {"mean": 1.0}}


def report(left=LEFT, everyday=EVERYDAY):
    cells = [
        {"attack": attack, "eps": eps, **measured(value)}
        for attack, values in left.items()
        for eps, value in zip(BUDGETS, values, strict=True)
    ]
    natural = {change: measured(value) for change, value in everyday.items()}
    return {"methods": {"gradient": {"cells": cells, "natural": natural}}}


def failures(text, **changes):
    return parse(text, BUDGETS).failures(report(**changes))


HELD = {
    "whoever may change two levels may change one": (
        "topk_intersection=0.3@2",
        ["gradient under topk at 1 level: topk_intersection 0.200, below 0.3"],
    ),
    "and a larger budget does not count": ("topk_intersection=0.2@2", []),
    "noise is tried as well": (
        "topk_intersection=0.9@2",
        ["topk at 1 level: topk_intersection 0.200", "mass-center at 2 levels", "random-sign at 2 levels"],
    ),
    "one attack": ("topk_intersection=0.6@mass-center:2", ["gradient under mass-center at 2 levels"]),
    "one attack in British English": ("topk_intersection=0.6@mass-centre:2", ["gradient under mass-center at 2"]),
    "noise alone": ("topk_intersection=0.5@noise:8", ["gradient under random-sign at 8 levels"]),
    "noise alone, which holds": ("topk_intersection=0.5@random-sign:2", []),
    "a change of every day": ("topk_intersection=0.7@jpeg", ["gradient under jpeg: topk_intersection 0.600, below"]),
    "all of them but the shift": ("topk_intersection=.65@everyday", ["gradient under jpeg: "]),
    "the shift, if it is named": ("topk_intersection=0.5@shift", ["gradient under shift: "]),
    "another measure": ("rank_correlation=0.9@8", []),
    "as much is not less": ("topk_intersection=0.6@jpeg", []),
}


@pytest.mark.parametrize("case", HELD)
def test_a_condition_looks_where_it_says(case):
    text, expected = HELD[case]
    found = failures(text)
    assert len(found) == len(expected)
    for line, words in zip(found, expected, strict=True):
        assert words in line


def test_what_could_not_be_measured_is_not_known_to_be_left():
    nothing = {**LEFT, "topk": (0.9, 0.9, None, 0.9)}
    assert failures("topk_intersection=0.0@2", left=nothing) == [
        "gradient under topk at 2 levels: topk_intersection nothing, below 0"
    ]
    assert failures("topk_intersection=0@jpeg", everyday={**EVERYDAY, "jpeg": None}) == [
        "gradient under jpeg: topk_intersection nothing, below 0"
    ]


def test_a_condition_is_a_value():
    parsed = parse("topk_intersection=0.3@topk:2", BUDGETS)
    assert parsed == Condition("topk_intersection", 0.3, ("topk",), 2.0)


BAD = {
    "topk=0.3@2": "expected MEASURE=NUMBER@PLACE, of topk_intersection or rank_correlation, such as",
    "topk_intersection": "expected MEASURE=NUMBER@PLACE",
    "topk_intersection=0.3": "expected MEASURE=NUMBER@PLACE",
    "topk_intersection=x@2": "expected MEASURE=NUMBER@PLACE",
    "topk_intersection=0.3.1@2": "expected MEASURE=NUMBER@PLACE",
    "topk_intersection=-1@2": "expected MEASURE=NUMBER@PLACE",
    "center_shift=1@2": "expected MEASURE=NUMBER@PLACE",
    "topk_intersection=30@2": "expected a number from 0 to 1, what is left of topk_intersection, got 30",
    "topk_intersection=0.3@": "expected MEASURE=NUMBER@PLACE",
    "topk_intersection=0.3@rain": "expected one of a budget, topk:BUDGET, .* everyday after the @, got 'rain'",
    "topk_intersection=0.3@rain:2": "after the @, got 'rain:2'",
    "topk_intersection=0.3@jpeg:2": "after the @, got 'jpeg:2'",
    "topk_intersection=0.3@topk": "after the @, got 'topk'",
    "topk_intersection=0.3@topk:": "after the @, got 'topk:'",
    "topk_intersection=0.3@3": "expected a budget of the audit, 0.5, 1, 2, 8, got 3",
    "topk_intersection=0.3@topk:3": "expected a budget of the audit, 0.5, 1, 2, 8, got 3",
}


@pytest.mark.parametrize("text", BAD)
def test_what_states_no_condition_is_refused(text):
    with pytest.raises(ValueError, match=BAD[text]):
        parse(text, BUDGETS)
