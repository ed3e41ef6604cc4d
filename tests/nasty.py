"""What nobody should have written, for the fuzz of settings and of the command line."""

import json

from hypothesis import strategies as st

MODULE = """
from pathlib import Path

Path({trace!r}).write_text("imported")


def __getattr__(name):
    return lambda *arguments, **options: None
"""
DEEP = "[" * 100_000
NUMBERS = [0, -1, 1, 2, 10**6, 10**9, 2**53, 2**53 + 1, 2**64, 10**30, 1.5, 0.0, -0.5, 1e-300, 1e308]
NAMES = [
    *("", " ", "x", "squeezenet", "cifar10", "gradient", "topk", "targeted", "lrp-zplus", "grad-cam", "crop"),
    "cifar10-samples",
    *("planted:function", "planted.deep:function", "subprocess:getoutput", "os:system", "sys:exit", "os:abort"),
    *("~nobody-of-this-name/x", "../..", "a\0b", "a\nb", "\ud800", "ü", "x" * 5000, "[", "{}", "nan", "1,2,3,4"),
]
CHOICES = [
    {"name": "planted:function", "cmd": "touch trace"},
    {"name": "subprocess:getoutput", "cmd": "touch trace"},
    {"name": "smoothgrad", "method": {"name": "planted:function"}},
    {"name": "smoothgrad", "method": {"name": "smoothgrad", "method": {"name": "lrp", "epsilon": 1}}},
    {"name": "smoothgrad", "seed": 10**30},
    {"name": "integrated-gradients", "steps": 10**9},
    {"name": "integrated-gradients", "rule": "planted:function"},
    {"name": "deeplift", "baseline": {"name": "planted:function"}},
    {"name": "lrp-zplus", "rule": "epsilon"},
    {"name": "topk", "k": 10**9},
    {"name": "targeted", "region": [1, 2, 3, 4]},
    {"name": "targeted", "region": [1, 2, 3, 10**30]},
    {"name": "targeted", "region": "planted:function"},
    {"name": {"name": "planted:function"}},
    {"name": "gradient", "": 1},
]
LEAVES = st.sampled_from([None, True, False, float("nan"), float("inf"), *NUMBERS, *NAMES])
VALUES = st.recursive(
    LEAVES | st.sampled_from(CHOICES),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["name", "k", "x"]), inner, max_size=3),
    max_leaves=6,
)


def places(value, at=()):
    """Every place in a JSON value: the keys and indices that lead to it."""
    yield at
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inside:
        yield from places(part, (*at, key))


def replaced(value, at, new):
    """The value with what is at a place replaced."""
    if not at:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[at[0]] = replaced(copy[at[0]], at[1:], new)
    return copy


@st.composite
def mangled(draw, value):
    """JSON text that was once `value`: parts replaced, keys twice, cut short, digits and brackets without an end."""
    for _ in range(draw(st.integers(0, 2))):
        value = replaced(value, draw(st.sampled_from([*places(value)])), draw(VALUES))
    text = json.dumps(value)
    how = draw(st.sampled_from(["as it is"] * 5 + ["twice", "cut", "put"]))
    if how == "twice" and text.startswith("{"):
        return f'{{"models": "planted:function", {text[1:]}'
    at = draw(st.integers(0, len(text)))
    if how == "cut":
        return text[:at]
    put = draw(st.sampled_from([DEEP, "9" * 5000, "1e999", "NaN", "\\ud800", "\0", "}", '"', ",", "{", "// remark"]))
    return text[:at] + put + text[at:] if how == "put" else text
