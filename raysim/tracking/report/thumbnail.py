"""A small picture of one metric over rounds, as SVG that needs nothing else: for notebooks and the gallery."""

from __future__ import annotations

import html

import numpy as np

from raysim.arrays import Float64
from raysim.tracking.report.markup import Html
from raysim.tracking.units import figure

WIDTH, HEIGHT = 360, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 12, 24, 24
"""Room for the labels around the curve."""
_TEXT, _GRID, _LINE = "#767676", "#9a9a9a", "#0072b2"
"""Legible on light and on dark pages."""
_MOST = 150
"""Points that are drawn."""


def thumbnail(rounds: Float64, values: Float64, label: str) -> Html:
    """A curve through finite values `[n]` at these rounds `[n]`; without values only its frame."""
    title = html.escape(label)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'role="img" aria-label="{title}" font-family="system-ui, sans-serif" font-size="11" fill="{_TEXT}">',
        f'<text x="{_LEFT}" y="14">{title}</text>',
        f'<path d="M{_LEFT} {_TOP}V{HEIGHT - _BOTTOM}H{WIDTH - _RIGHT}" fill="none" stroke="{_GRID}"/>',
        *(_curve(rounds, values) if len(values) else ()),
        "</svg>",
    ]
    return Html("".join(parts))


def _curve(rounds: Float64, values: Float64) -> list[str]:
    kept = np.unique(np.linspace(0, len(values) - 1, _MOST).round().astype(np.int64))
    low, high = float(values.min()), float(values.max())
    x = _LEFT + (rounds[kept] - rounds[0]) / (rounds[-1] - rounds[0] or 1) * (WIDTH - _LEFT - _RIGHT)
    y = HEIGHT - _BOTTOM - (values[kept] - low) / (high - low or 1) * (HEIGHT - _TOP - _BOTTOM)
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x.tolist(), y.tolist(), strict=True))
    edge, foot = _LEFT - 6, HEIGHT - 8
    ends = [(low, HEIGHT - _BOTTOM), (high, _TOP + 8)] if high > low else [(low, HEIGHT - _BOTTOM)]
    return [
        f'<polyline points="{points}" fill="none" stroke="{_LINE}" stroke-width="1.8" stroke-linejoin="round"/>',
        f'<circle cx="{x[-1]:.1f}" cy="{y[-1]:.1f}" r="2.6" fill="{_LINE}"/>',
        *(f'<text x="{edge}" y="{at:.0f}" text-anchor="end">{figure(value)}</text>' for value, at in ends),
        f'<text x="{_LEFT}" y="{foot}">round {rounds[0]:.0f}</text>',
        f'<text x="{WIDTH - _RIGHT}" y="{foot}" text-anchor="end">{rounds[-1]:.0f}</text>',
    ]
