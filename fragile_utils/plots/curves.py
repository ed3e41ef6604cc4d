"""A small chart as SVG, for pages that are read without a kernel and without a network: curves over budgets."""

from collections.abc import Sequence
from dataclasses import dataclass

from fragile_utils.plots.escaping import escaped

WIDTH, HEIGHT = 700, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 230, 12, 44  # pixels of room for the axes, and for the names of the curves
SAMPLE = 26  # pixels of a curve's line beside its name
COLORS = ("#0072b2", "#d55e00", "#007a5a", "#8f4a7d", "#6b5a00", "#444444")  # told apart by those who see few colours
DASHES = ("", "7 4", "2 3", "9 3 2 3", "1 4", "5 5")


@dataclass(frozen=True)
class Curve:
    """A named curve: values at places, and the bounds of their intervals if there are any; None where none is known."""

    name: str
    values: Sequence[float | None]
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()


def chart(places: Sequence[float], curves: Sequence[Curve], x: str, y: str, alt: str, top: float = 1.0) -> str:
    """Return curves over `places`, which lie at equal distances, as an SVG that needs nothing else.

    Parameters
    ----------
    places : sequence of float
    curves : sequence of Curve
        With a value for each place, from 0 to `top`.
    x, y : str
        What the axes show.
    alt : str
        What there is to see, for those who do not see it.
    """
    across = (WIDTH - LEFT - RIGHT) / max(1, len(places) - 1)
    down = HEIGHT - TOP - BOTTOM

    def at(i: int, value: float) -> tuple[float, float]:
        return LEFT + i * across, TOP + down * (1 - min(max(value / top, 0), 1))

    parts = [
        f'<svg class="chart" role="img" aria-label="{escaped(alt)}" viewBox="0 0 {WIDTH} {HEIGHT}">',
        *_axes(places, at, x, y, top),
    ]
    ends: list[float] = []
    for number, curve in enumerate(curves):
        color, dash = COLORS[number % len(COLORS)], DASHES[number % len(DASHES)]
        known = [(i, value) for i, value in enumerate(curve.values) if value is not None]
        if not known:
            continue
        band = [(i, a, b) for i, (a, b) in enumerate(zip(curve.low, curve.high, strict=True)) if None not in (a, b)]
        if len(band) > 1:
            outline = [at(i, a) for i, a, _ in band] + [at(i, b) for i, _, b in reversed(band)]
            parts.append(f'<polygon points="{_points(outline)}" fill="{color}" fill-opacity=".12"/>')
        line = [at(i, value) for i, value in known]
        parts.append(
            f'<polyline points="{_points(line)}" fill="none" stroke="{color}" stroke-width="2.5"'
            f' stroke-dasharray="{dash}"/>'
        )
        parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3.5" fill="{color}"/>' for a, b in line]
        height = _free(line[-1][1], ends)
        ends.append(height)
        left = WIDTH - RIGHT + 10
        parts.append(
            f'<line x1="{left}" x2="{left + SAMPLE}" y1="{height:.1f}" y2="{height:.1f}" stroke="{color}"'
            f' stroke-width="2.5" stroke-dasharray="{dash}"/>'
            f'<text x="{left + SAMPLE + 6}" y="{height + 4:.1f}">{escaped(curve.name)}</text>'
        )
    return "\n".join([*parts, "</svg>"])


def _axes(places: Sequence[float], at, x: str, y: str, top: float) -> list[str]:
    parts = []
    for tenth in (0, 0.25, 0.5, 0.75, 1):
        left, height = at(0, tenth * top)
        parts.append(
            f'<line x1="{left:.1f}" x2="{WIDTH - RIGHT}" y1="{height:.1f}" y2="{height:.1f}" class="grid"/>'
            f'<text x="{left - 8:.1f}" y="{height + 4:.1f}" text-anchor="end">{tenth * top:g}</text>'
        )
    for i, place in enumerate(places):
        left, height = at(i, 0)
        parts.append(f'<text x="{left:.1f}" y="{height + 18:.1f}" text-anchor="middle">{place:g}</text>')
    middle = LEFT + (WIDTH - LEFT - RIGHT) / 2
    parts.append(f'<text x="{middle:.0f}" y="{HEIGHT - 6}" text-anchor="middle">{escaped(x)}</text>')
    centre = TOP + (HEIGHT - TOP - BOTTOM) / 2
    turned = f'transform="rotate(-90 16 {centre:.0f})"'
    parts.append(f'<text x="16" y="{centre:.0f}" text-anchor="middle" {turned}>{escaped(y)}</text>')
    return parts


def _free(height: float, taken: Sequence[float]) -> float:
    """Return the height nearest to the wanted one at which a name does not cover another."""
    steps = sorted((sign * i * 4 for i in range(80) for sign in (1, -1)), key=abs)
    free = (height + step for step in steps if all(abs(height + step - other) >= 15 for other in taken))
    return next((h for h in free if TOP <= h <= HEIGHT - BOTTOM), height)


def _points(pairs: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in pairs)
