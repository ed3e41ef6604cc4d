"""Values that anybody may have written."""

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fragile_utils._base import schema

FINITE = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**90), 10**90) | FINITE | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=15,
)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(JSON)
def test_what_is_json_is_read_as_json_is(value):
    assert schema.parse(json.dumps(value)) == value


BAD = {
    "no JSON": ("{", "this is no JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
    "nothing": ("", "this is no JSON: Expecting value: line 1 column 1 (char 0)"),
    "a key twice": ('{"a": {"k": 1, "b": 2, "k": 1}}', "expected each key once, got 'k' twice"),
    "brackets without an end": ("[" * 100_000, "expected objects and lists nested at most 20 deep"),
    "objects without an end": ('{"a":' * 100_000, "expected objects and lists nested at most 20 deep"),
    "21 deep": ("[" * 21 + "]" * 21, "expected objects and lists nested at most 20 deep"),
    "digits without an end": ("9" * 5000, "expected numbers of at most 100 digits, got one of 5,000"),
    "not a number": ("[NaN]", "expected finite numbers, got NaN"),
    "infinity": ("-Infinity", "expected finite numbers, got -Infinity"),
    "a float too large": ("1e999", "expected finite numbers, got '1e999'"),
    "half a letter": ('{"\\ud800": 1}', "expected Unicode text, got '\\ud800'"),
}


@pytest.mark.parametrize("case", BAD)
def test_other_text_is_refused(case):
    text, message = BAD[case]
    with pytest.raises(ValueError, match=r".") as raised:
        schema.parse(text)
    assert str(raised.value) == message


def test_20_deep_is_read():
    assert json.dumps(schema.parse("[" * 20 + "]" * 20)) == "[" * 20 + "]" * 20


VALUES = {
    "a float": (lambda: schema.whole(1.0, "n"), "n: expected a whole number at least 1, got 1.0"),
    "true": (lambda: schema.whole(True, "n"), "n: expected a whole number at least 1, got True"),
    "zero": (lambda: schema.whole(0, "n"), "n: expected a whole number at least 1, got 0"),
    "below zero": (lambda: schema.whole(-1, "n", 0), "n: expected a whole number, 0 or above, got -1"),
    "too many": (lambda: schema.whole(11, "n", high=10), "n: expected a whole number from 1 to 10, got 11"),
    "digits": (
        lambda: schema.whole(10**5000, "n"),
        f"n: expected a whole number from 1 to {2**53}, got one of more than 30 digits",
    ),
    "text": (lambda: schema.number("1", "x"), "x: expected a number above 0, got '1'"),
    "no number": (lambda: schema.number(float("nan"), "x"), "x: expected a number above 0, got nan"),
    "no float": (lambda: schema.number(10**5000, "x"), "x: expected a number above 0, got one of more than 30 digits"),
    "a number too large": (lambda: schema.number(1, "x", below=1), "x: expected a number above 0 and below 1, got 1"),
    "a negative number": (lambda: schema.number(-1, "x", zero=True), "x: expected a number, 0 or above, got -1"),
    "no text": (lambda: schema.text(3, "t", 5), "t: expected text, got 3"),
    "long text": (lambda: schema.text("x" * 6000, "t", 5), "t: expected at most 5 characters, got 6,000"),
    "no name": (lambda: schema.label("", "t", 5), "t: expected a name, got ''"),
    "a null character": (lambda: schema.label("a\0", "t", 5), "t: expected a name, got 'a\\x00'"),
    "one for true": (lambda: schema.flag(1, "f"), "f: expected true or false, got 1"),
    "a list for an object": (lambda: schema.fields([], "o", ()), "o: expected an object with its fields, got []"),
    "a field that is missing": (lambda: schema.fields({"a": 1}, "o", ("a", "b", "c")), "o: expected b, c"),
    "an empty list": (lambda: schema.entries([], "l"), "l: expected a list with at least one entry, got []"),
    "a short list": (lambda: schema.entries([1], "l", 2), "l: expected 2 entries, got 1"),
}


@pytest.mark.parametrize("case", VALUES)
def test_values_of_other_types_or_ranges_are_refused(case):
    check, message = VALUES[case]
    with pytest.raises(ValueError, match=r".") as raised:
        check()
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("error", "said"),
    [
        *[(MemoryError(), "MemoryError"), (RuntimeError(" \n "), "RuntimeError"), (ValueError("one"), "one")],
        (RuntimeError("\nfirst\nsecond"), "first"),
    ],
)
def test_the_reason_of_an_error_is_its_first_line_or_its_type(error, said):
    assert schema.reason(error) == said


def test_what_a_file_holds_is_read_and_an_error_names_it(tmp_path):
    path = tmp_path / "a.json"

    def counted(given):
        return schema.whole(schema.fields(given, "it", ["n"])["n"], "n")

    path.write_text('{"n": 3}')
    assert schema.load(path, counted) == schema.load(str(path), counted, "the settings of a test") == 3
    for content, message in (
        (b"{", "this is no JSON"),
        (b"\xff", "'utf-8' codec"),
        (b'{"n": 0}', "n: expected a whole"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: {message}"):
            schema.load(path, counted)
        with pytest.raises(
            ValueError, match=f"^{re.escape(str(path))}: these are not the settings of a test: {message}"
        ):
            schema.load(path, counted, "the settings of a test")
    for missing in (tmp_path, tmp_path / "none.json"):
        with pytest.raises(ValueError, match=f"^cannot read {re.escape(str(missing))}: (Is a directory|No such file)"):
            schema.load(missing, counted)


def test_what_has_changed_is_said_of_each_setting():
    assert schema.changed({"a": 1, "b": [2], "z": 0}, {"a": 1, "b": [3], "c": 4}) == [
        "b [2] (now [3])",
        "c None (now 4)",
    ]


def test_what_an_error_shows_is_never_long():
    nested = []
    nested.append(nested)
    for value in ("x" * 10**6, 10**5000, -(10**5000), [10**5000], {"a": "x" * 10**6}, nested, range(10**9), 1e308):
        assert len(schema.shown(value)) <= 200
    assert schema.shown("x" * 100) == f"'{'x' * 40}...{'x' * 20}'"
