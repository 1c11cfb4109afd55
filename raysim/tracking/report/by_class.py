"""How each class is served: what was measured of every class, over the rounds and at the last evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from raysim.arrays import Float64
from raysim.tracking.metric_names import by_class, words
from raysim.tracking.report.curves import MARKERS, file_name, line_width, opacity
from raysim.tracking.report.markup import Content, Html, table
from raysim.tracking.report.recorded import RecordedRun
from raysim.tracking.report.style import Picture, Theme, axes, color, legend, whole_numbers
from raysim.tracking.units import figure

FEW = 6
"""Classes that have a curve each."""
SHOWN = 40
"""Classes in a picture; of more, those that are served worst."""
WHERE = ("validation", "test")


def class_pictures(runs: Sequence[RecordedRun]) -> list[Picture]:
    """What was measured of every class on a server's set: over the rounds of one run, at the end of several."""
    found: dict[str, tuple[str, list[str]]] = {}
    for (where, family, summary), names in by_class(name for run in runs for name in run.metrics).items():
        if not summary and where in WHERE and (family not in found or where == WHERE[0]):
            found[family] = where, list(names)
    draw = _over_rounds if len(runs) == 1 else _at_the_end
    return [draw(runs, where, family, classes) for family, (where, classes) in found.items()]


def class_table(run: RecordedRun) -> Html | None:
    """A row for each class, a column for each thing that was measured of it: the last values."""
    columns = {
        (where, family, summary): names
        for (where, family, summary), names in by_class(run.metrics).items()
        if summary in ("", "mean", "worst10")
    }
    classes = list(dict.fromkeys(one for names in columns.values() for one in names))
    if not classes:
        return None
    head: list[Content] = ["class", *(" ".join(filter(None, (*where.split("/"), family, summary)))
                                      for where, family, summary in columns)]  # fmt: skip
    rows: list[list[Content]] = [
        [one, *(figure(_last(run, names.get(one))) for names in columns.values())] for one in classes
    ]
    return table(head, rows)


def _over_rounds(runs: Sequence[RecordedRun], where: str, family: str, classes: Sequence[str]) -> Picture:
    """A curve for each of a few classes; of more a row for each, dark where it is served worst."""
    run = runs[0]
    curves = {one: run.curve(f"{where}/{family}/{one}") for one in classes}
    title = f"{words(family)} of each class ({where})"
    alt = f"{words(family)} of each class over the rounds"
    if len(classes) <= FEW:

        def draw_curves(theme: Theme) -> Figure:
            picture, ax = axes(theme, title, "round")
            for index, (one, curve) in enumerate(curves.items()):
                width, below = line_width(index, len(classes)), opacity(index, len(classes))
                style: dict[str, Any] = {"color": color(theme, index), "marker": MARKERS[index], "markersize": 4}
                ax.plot(curve.rounds, curve.values, label=one[:24], linewidth=width, alpha=below, **style)
            whole_numbers(ax)
            legend(picture, ax, columns=3)
            return picture

        return Picture(f"classes-{file_name(family)}", alt, draw_curves)
    shown = _worst({one: float(curve.values[-1]) for one, curve in curves.items() if len(curve.values)}, classes)

    def draw(theme: Theme) -> Figure:
        picture, ax = axes(theme, title, "round", height=1.5 + 0.2 * len(shown))
        rounds = np.unique(np.concatenate([curves[one].rounds for one in shown]))
        cells: Float64 = np.full((len(shown), len(rounds)), np.nan)
        for row, one in enumerate(shown):
            cells[row, np.searchsorted(rounds, curves[one].rounds)] = curves[one].values
        edges = _edges(rounds)
        image = ax.pcolormesh(edges, np.arange(len(shown) + 1) - 0.5, cells, cmap="viridis", vmin=0, vmax=1)
        ax.set_yticks(range(len(shown)), [one[:24] for one in shown], fontsize=8)
        ax.invert_yaxis()
        ax.grid(visible=False)
        ax.margins(x=0)
        whole_numbers(ax)
        bar = picture.colorbar(image, ax=ax, pad=0.02, aspect=30)
        bar.outline.set_visible(False)
        bar.ax.tick_params(length=0, labelsize=8)
        return picture

    return Picture(f"classes-{file_name(family)}", f"{alt}, as colours", draw)


def _at_the_end(runs: Sequence[RecordedRun], where: str, family: str, classes: Sequence[str]) -> Picture:
    """A row for each class, a mark for each run."""
    last = [{one: _last(run, f"{where}/{family}/{one}") for one in classes} for run in runs]
    known = {one: [value for found in last if (value := found[one]) is not None] for one in classes}
    shown = _worst({one: min(values) for one, values in known.items() if values}, classes)

    def draw(theme: Theme) -> Figure:
        title = f"{words(family)} of each class ({where}, last)"
        picture, ax = axes(theme, title, words(family).lower(), height=1.6 + 0.26 * len(shown))
        for index, (run, found) in enumerate(zip(runs, last, strict=True)):
            points = [(value, row) for row, one in enumerate(shown) if (value := found[one]) is not None]
            size = 9 - 4.5 * index / max(len(runs) - 1, 1)
            marker = MARKERS[index % len(MARKERS)]
            values, rows = zip(*points, strict=True) if points else ((), ())
            ax.plot(values, rows, marker, markersize=size, color=color(theme, index), label=run.label)
        ax.set_yticks(range(len(shown)), [one[:24] for one in shown], fontsize=8)
        ax.set_ylim(len(shown) - 0.5, -0.5)
        ax.set_xlim(-0.03, 1.03)
        ax.grid(axis="x")
        legend(picture, ax, columns=3)
        return picture

    return Picture(f"classes-{file_name(family)}", f"{words(family)} of each class at the last evaluation", draw)


def _worst(values: Mapping[str, float], classes: Sequence[str]) -> list[str]:
    """At most `SHOWN` of the classes, in their order: those with the lowest values."""
    measured = [one for one in classes if one in values]
    chosen = set(sorted(measured, key=values.__getitem__)[:SHOWN])
    return [one for one in measured if one in chosen]


def _edges(rounds: Float64) -> Float64:
    """Where cells begin and end, halfway between rounds."""
    middle = (rounds[1:] + rounds[:-1]) / 2
    first = rounds[0] - (middle[0] - rounds[0] if len(middle) else 0.5)
    last = rounds[-1] + (rounds[-1] - middle[-1] if len(middle) else 0.5)
    return np.concatenate([[first], middle, [last]])


def _last(run: RecordedRun, metric: str | None) -> float | None:
    values = run.curve(metric).values if metric is not None else np.zeros(0)
    return float(values[-1]) if len(values) else None
