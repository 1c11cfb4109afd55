"""Charts of a page that is redrawn while a run goes on: inline SVG in the page's own colours.

The report's pictures take Matplotlib a fifth of a second each, which the training beside the page needs; these take
about a millisecond. They have the report's colours, phases and groups of rounds.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from raysim.arrays import Float64
from raysim.tracking.report.markup import Html, element, escape, join, swatch

WIDTH, HEIGHT = 360.0, 196.0
"""Of a drawing, in units that are about a pixel on a telephone and on a wide screen alike."""
LEFT, RIGHT, TOP, BOTTOM = 46.0, 350.0, 8.0, 172.0
POINTS = 300
"""Of a line; of more, every n-th is drawn."""
MARKED = 20
_NICE = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Line:
    """A curve.

    Attributes:
        label: in the legend.
        x, y: its points `[n]`, x ascending; may be empty.
        color: its place in `Theme.colors`.
        dashed: drawn with dashes.
    """

    label: str
    x: Float64
    y: Float64
    color: int
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Layer:
    """One colour of stacked bars: a height for each bar `[n]`."""

    label: str
    heights: Float64
    color: int


@dataclass(frozen=True, slots=True)
class Axes:
    """From values to places in a drawing."""

    x: tuple[float, float]
    y: tuple[float, float]

    def across(self, value: float) -> float:
        """The horizontal place."""
        low, high = self.x
        return LEFT + (RIGHT - LEFT) * (value - low) / (high - low)

    def up(self, value: float) -> float:
        """The vertical place."""
        low, high = self.y
        return BOTTOM - (BOTTOM - TOP) * (value - low) / (high - low)


def line_chart(title: str, lines: Sequence[Line], text: Callable[[float], str]) -> Html:
    """Curves over rounds, each named with its last value; empty ones are left out."""
    lines = [line for line in lines if len(line.y)]
    if not lines:
        return Html("")
    rounds: Float64 = np.unique(np.concatenate([line.x for line in lines]))
    values = np.concatenate([line.y for line in lines])
    low, high = _room(float(values.min()), float(values.max()))
    first, last = float(rounds[0]), float(rounds[-1])
    axes = Axes((first - 0.5, last + 0.5) if first == last else (first, last), (low, high))
    drawn = [*_grid(axes, _plain)]
    for line in lines:
        kept = _kept(len(line.x))
        places = [(axes.across(float(x)), axes.up(float(y))) for x, y in zip(line.x[kept], line.y[kept], strict=True)]
        dashes = ' stroke-dasharray="5 4"' if line.dashed else ""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        drawn.append(f'<polyline points="{path}" fill="none" {_stroke(line.color)}{dashes}/>')
        if len(places) <= MARKED:
            drawn += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" {_fill(line.color)}/>' for x, y in places]
    seen = rounds[_kept(len(rounds))]
    spots = [(axes.across(float(one)), _spoken(lines, float(one), text)) for one in seen]
    legend = [(line.color, f"{line.label} {text(float(line.y[-1]))}") for line in lines]
    return _figure(title, drawn, legend, spots)


def bar_chart(
    title: str, edges: Float64, layers: Sequence[Layer], text: Callable[[float], str], *, whole: bool = False
) -> Html:
    """Stacked bars over rounds.

    Args:
        title: above it.
        edges: `[n + 1]`, the rounds at which bars begin and end: 1, 4, 7 for the bars of rounds 1 to 3 and 4 to 6.
        layers: from below; those without height are left out.
        text: a height in words.
        whole: heights are counts.
    """
    layers = [layer for layer in layers if layer.heights.any()]
    total: Float64 = np.sum([layer.heights for layer in layers], axis=0) if layers else np.zeros(len(edges) - 1)
    # The first round pays for the start; where it dwarfs the others, they are what should be seen.
    usual = float(total[1:].max()) if len(total) > 1 else 0.0
    top = usual * 1.3 if 0 < usual < total[0] / 3 else float(total.max())
    axes = Axes((float(edges[0]) - 0.5, float(edges[-1]) - 0.5), (0.0, top * 1.04 or 1.0))
    drawn = [*_grid(axes, text, whole=whole)]
    spots = []
    for number in range(len(total)):
        left, right = axes.across(float(edges[number]) - 0.5), axes.across(float(edges[number + 1]) - 0.5)
        gap = min(1.5, (right - left) / 6)
        below = 0.0
        for layer in layers:
            height = min(float(layer.heights[number]), axes.y[1] - below)
            if height > 0:
                y, foot = axes.up(below + height), axes.up(below)
                drawn.append(_box(left + gap / 2, y, right - left - gap, foot - y, layer.color))
                below += height
        rounds = _rounds(int(edges[number]), int(edges[number + 1]) - 1)
        parts = [f"{layer.label} {text(float(layer.heights[number]))}" for layer in layers if layer.heights[number]]
        spots.append(((left + right) / 2, ", ".join([f"{rounds}: {text(float(total[number]))}", *parts[:5]])))
    return _figure(title, drawn, [(layer.color, layer.label) for layer in layers], spots)


def lane_chart(title: str, lanes: Sequence[tuple[str, Sequence[tuple[float, int, str]]]], unit: str) -> Html:
    """A bar for each lane, made of pieces one after the other: (length, colour, what it is)."""
    longest = max((sum(piece[0] for piece in pieces) for _, pieces in lanes), default=0.0) or 1.0
    each = min(26.0, max(7.0, (BOTTOM - TOP) / max(len(lanes), 1)))
    foot = TOP + each * len(lanes)
    axes = Axes((0.0, longest * 1.02), (0.0, 1.0))
    drawn = []
    for tick in _ticks(*axes.x, 4):
        x = axes.across(tick)
        drawn.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{foot:.1f}" class="grid"/>')
        drawn.append(f'<text x="{x:.1f}" y="{foot + 15:.1f}" text-anchor="middle">{_plain(tick)}</text>')
    for number, (name, pieces) in enumerate(lanes):
        top, begin = TOP + each * number, 0.0
        drawn.append(f'<text x="{LEFT - 6}" y="{top + each / 2 + 4:.1f}" text-anchor="end">{html.escape(name)}</text>')
        for length, color, what in pieces:
            x, width = axes.across(begin), axes.across(begin + length) - axes.across(begin)
            inner = max(width - 0.8, 0.4)
            drawn.append(_box(x, top + each * 0.14, inner, each * 0.72, color, what))
            begin += length
    drawn.append(f'<text x="{LEFT - 14}" y="{foot + 15:.1f}" text-anchor="end">{html.escape(unit)}</text>')
    return _figure(title, drawn, [], [], height=foot + 24)


def _figure(
    title: str,
    drawn: Sequence[str],
    legend: Sequence[tuple[int, str]],
    spots: Sequence[tuple[float, str]],
    *,
    height: float = HEIGHT,
) -> Html:
    """The drawing with its title and legend; `spots` are places along it with what the page's script says of them."""
    keys = [element("span", join([swatch(color), label]), kind="key") for color, label in legend]
    caption = element("figcaption", join([element("b", title), *keys]))
    hover = ""
    if spots:
        places = " ".join(f"{x:.1f}" for x, _ in spots)
        words = html.escape("\n".join(words for _, words in spots)).replace("\n", "&#10;")
        hover = f' data-at="{places}" data-text="{words}"'
    shape = f'viewBox="0 0 {WIDTH:g} {height:g}" role="img" aria-label="{html.escape(title)}"'
    return Html(f'<figure class="chart">{escape(caption)}<svg {shape}{hover}>{"".join(drawn)}</svg></figure>')


def _grid(axes: Axes, text: Callable[[float], str], *, whole: bool = False) -> list[str]:
    """Lines at heights, which `text` names, and whole numbers below."""
    drawn = []
    for tick in _ticks(*axes.y, 5, whole=whole):
        y = axes.up(tick)
        drawn.append(f'<line x1="{LEFT}" x2="{RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
        drawn.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text(tick)}</text>')
    for tick in _ticks(*axes.x, 6, whole=True):
        place = f'x="{axes.across(tick):.1f}" y="{BOTTOM + 16}"'
        drawn.append(f'<text {place} text-anchor="middle">{_plain(tick)}</text>')
    drawn.append(f'<text x="{LEFT - 6}" y="{BOTTOM + 16}" text-anchor="end">round</text>')
    return drawn


def _ticks(low: float, high: float, count: int, *, whole: bool = False) -> list[float]:
    """Round numbers between two values, at most about this many."""
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(nice * power for nice in _NICE if nice * power >= raw * (1 - 1e-9))
    if whole:
        step = max(1.0, math.ceil(step))
    return [number * step for number in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _plain(value: float) -> str:
    if value and not 1e-4 <= abs(value) < 1e6:
        return f"{value:.3g}".replace("e-0", "e-").replace("e+0", "e")
    return f"{round(value, 6):,.10g}".replace("-", "−")


def _room(low: float, high: float) -> tuple[float, float]:
    """The values' range with a margin; around a single value where all are the same."""
    if not high - low > 1e-12 * max(abs(low), abs(high)):
        around = abs(low) / 10 or 1.0
        return low - around, high + around
    margin = 0.06 * (high - low)
    return low - margin, high + margin


def _kept(count: int) -> npt.NDArray[np.int64]:
    return np.unique(np.linspace(0, count - 1, min(count, POINTS)).round().astype(np.int64))


def _spoken(lines: Sequence[Line], at: float, text: Callable[[float], str]) -> str:
    found = [(line.label, line.y[line.x == at]) for line in lines]
    return ", ".join([f"round {at:.0f}", *(f"{label} {text(float(y[0]))}" for label, y in found if len(y))])


def _rounds(first: int, last: int) -> str:
    return f"round {first}" if first == last else f"rounds {first}–{last}"


def _stroke(color: int) -> str:
    return f'stroke="var(--series-{color})" stroke-width="1.8" stroke-linejoin="round" stroke-linecap="round"'


def _fill(color: int) -> str:
    return f'fill="var(--series-{color})"'


def _box(x: float, y: float, width: float, height: float, color: int, what: str = "") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.2f}" height="{height:.1f}" {_fill(color)}'
    return f"<rect {place}><title>{html.escape(what)}</title></rect>" if what else f"<rect {place}/>"
