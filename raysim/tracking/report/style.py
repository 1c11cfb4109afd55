"""How the report's pictures look: one quiet style, light and dark, in colours that colour-blind people tell apart."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from raysim.tracking.report.themes import DARK as DARK
from raysim.tracking.report.themes import LIGHT as LIGHT
from raysim.tracking.report.themes import Theme as Theme

WIDTH, HEIGHT, DPI = 5.6, 3.4, 180
_PALETTE = 128
"""Colours of a picture: a few series and the edges of letters."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of the report: drawn once for each theme."""

    name: str
    """Of the PNG file, without its ending."""
    alt: str
    """Text alternative for readers who cannot see it."""
    draw: Callable[[Theme], Figure]
    note: str = ""
    """A sentence below it, where names need one."""

    def png(self, theme: Theme) -> bytes:
        """The picture as a PNG file with a palette, a third of the size of one without."""
        from PIL import Image  # which matplotlib writes PNG with

        drawn, small = io.BytesIO(), io.BytesIO()
        with matplotlib.rc_context(settings(theme)):
            figure = self.draw(theme)
            figure.savefig(drawn, format="rgba")
        whole = Image.frombytes("RGBA", figure.canvas.get_width_height(), drawn.getvalue())
        whole.convert("RGB").quantize(_PALETTE, dither=Image.Dither.NONE).save(small, format="png", optimize=True)
        return small.getvalue()


def axes(theme: Theme, title: str, x: str, *, height: float = HEIGHT) -> tuple[Figure, Axes]:
    """An empty figure with one pair of axes, named on the left above it rather than up the side."""
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.08))
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold", color=theme.text)
    ax = figure.add_subplot()
    ax.margins(x=0.02)
    ax.set_xlabel(x)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(length=0)
    ax.grid(axis="y")
    ax.set_axisbelow(True)
    return figure, ax


def whole_numbers(ax: Axes) -> None:
    """Ticks of the x axis at whole numbers only: there is no round 2.5."""
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1, steps=[1, 2, 5, 10]))


def logarithmic(ax: Axes, low: float, high: float) -> None:
    """A logarithmic x axis for values from `low` to `high`, its ticks written as plain numbers.

    Matplotlib's own are mathematical markup, which pictures do not parse: names of runs go through the same text.
    """
    decades = math.log10(high / low)
    # Within a decade or two, powers of ten alone are too few ticks to read a value by.
    steps = (1.0,) if decades > 3 else (1.0, 3.0) if decades > 1.5 else (1.0, 2.0, 5.0)
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=steps, numticks=8))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    ax.xaxis.set_minor_locator(NullLocator())


def legend(figure: Figure, ax: Axes, *, columns: int = 5) -> None:
    """A legend below the axes, where it never covers a line; none for a single series."""
    handles, labels = ax.get_legend_handles_labels()
    if len(handles) > 1:
        figure.legend(handles, labels, loc="outside lower left", ncols=min(columns, len(handles)), frameon=False)


def add_to_legend(ax: Axes, label: str, **style: Any) -> None:
    """An entry of the legend that stands for no line of its own."""
    ax.plot([], [], label=label, **style)


def color(theme: Theme, index: int) -> str:
    """Colour of the n-th series; after the last they begin again."""
    return theme.series[index % len(theme.series)]


def settings(theme: Theme) -> Any:
    """What Matplotlib is to draw by."""
    return {
        "font.family": "sans-serif",
        "font.size": 9.5,
        "text.color": theme.text,
        "text.parse_math": False,  # a run may well be called a_$b$
        "text.usetex": False,
        "axes.labelcolor": theme.faint,
        "axes.edgecolor": theme.grid,
        "axes.facecolor": theme.background,
        "figure.facecolor": theme.background,
        "xtick.color": theme.faint,
        "ytick.color": theme.faint,
        "grid.color": theme.grid,
        "grid.linewidth": 0.8,
        "lines.linewidth": 1.8,
        "lines.solid_capstyle": "round",
        "legend.fontsize": 9,
    }
