"""Figures, one visual language for the whole book; and the sliders and the live widget, in `plots.widgets`.

Saliency maps are drawn in one sequential colour map, on one scale for the maps that are compared; the colours that mark
sets of pixels are told apart by readers with any kind of colour vision.
"""

from fragile_utils.plots.attack import before_after
from fragile_utils.plots.influence import exemplars, show_influences
from fragile_utils.plots.maps import (
    BLACK,
    BLUE,
    DPI,
    GREEN,
    MAP_COLORS,
    ORANGE,
    WIDTH,
    ceiling,
    change_pixels,
    map_pixels,
    panels,
    show_change,
    show_image,
    show_map,
    show_top,
    top_pixels,
)

__all__ = [
    "BLACK",
    "BLUE",
    "DPI",
    "GREEN",
    "MAP_COLORS",
    "ORANGE",
    "WIDTH",
    "before_after",
    "ceiling",
    "change_pixels",
    "exemplars",
    "map_pixels",
    "panels",
    "show_change",
    "show_image",
    "show_influences",
    "show_map",
    "show_top",
    "top_pixels",
]
