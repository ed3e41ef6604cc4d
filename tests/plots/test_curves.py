"""Charts as SVG: what they show, and that no name in them does more than name."""

import ast
import xml.etree.ElementTree
from pathlib import Path

import pytest

from fragile_utils import plots
from fragile_utils.plots.curves import Curve, chart

HOSTILE = '<script>"a\u202eb\u0007&'
SVG = "{http://www.w3.org/2000/svg}"


def drawn(**changes):
    given = {"places": [1, 2, 4], "curves": [Curve("a", [1.0, 0.5, 0.0])], "x": "x", "y": "y", "alt": "alt"}
    text = chart(**given | changes)
    return text, xml.etree.ElementTree.fromstring(text.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))


def test_a_curve_passes_through_its_values():
    _, tree = drawn()
    (line,) = tree.iter(f"{SVG}polyline")
    points = [tuple(map(float, pair.split(","))) for pair in line.get("points").split()]
    (left, top), (middle, half), (right, bottom) = points
    assert right - middle == pytest.approx(middle - left, abs=0.2)
    assert half == pytest.approx((top + bottom) / 2, abs=0.2)
    assert top < bottom


@pytest.mark.parametrize("place", ["a curve", "x", "y", "alt"])
def test_a_name_of_any_characters_is_only_text(place):
    """Marks that turn text around, and codes that are no text of XML, are written as their codes."""
    name = {"curves": [Curve(HOSTILE, [1.0, 0.5, 0.0])]} if place == "a curve" else {place: HOSTILE}
    text, tree = drawn(**name)
    shown = [tree.get("aria-label"), *(node.text for node in tree.iter(f"{SVG}text"))]
    assert '<script>"a\\u202eb\\x07&' in shown
    assert "\u202e" not in text
    assert not list(tree.iter(f"{SVG}script"))


def test_names_are_escaped_in_one_way():
    """No module of the room escapes by itself what `escaping` makes readable as well."""
    paths = Path(plots.__file__).parent.glob("*.py")
    importing = {
        path.stem
        for path in paths
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import) and "html" in (alias.name for alias in node.names)
    }
    assert importing == {"escaping"}
