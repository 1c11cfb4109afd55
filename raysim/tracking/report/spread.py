"""How a model serves each client: what was measured on the clients' own samples, from the worst served to the best."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from raysim.arrays import Float64
from raysim.tracking.headline import ClientSet, smaller_is_better
from raysim.tracking.metric_names import words
from raysim.tracking.report.curves import file_name, line_width, opacity
from raysim.tracking.report.recorded import RecordedRun
from raysim.tracking.report.style import Picture, Theme, axes, color, legend

POINTS = 400
"""Clients drawn of very many, evenly spaced in their order."""


def sorted_clients(runs: Sequence[RecordedRun]) -> list[Picture]:
    """A picture for each metric but the loss and single classes, and each set: its value for each client, in order, a
    curve for each run."""
    found = dict.fromkeys((of, name) for run in runs for of in run.measured for name in run.measured[of].names)
    return [_sorted(runs, of, name) for of, name in found if name != "loss" and "/" not in name]


def _sorted(runs: Sequence[RecordedRun], of: ClientSet, name: str) -> Picture:
    where = " on its own test samples" if of == "test" else ""

    def draw(theme: Theme) -> Figure:
        title = f"{words(name)} of each client{where}, worst served first"
        picture, ax = axes(theme, title, "percent of the clients")
        for index, run in enumerate(runs):
            values = _values(run, of, name)
            if not len(values):
                continue
            shown = np.unique(np.linspace(0, len(values) - 1, POINTS).round().astype(np.int64))
            places, curve = (shown + 0.5) * 100 / len(values), values[shown]
            shade = color(theme, index)
            width = line_width(index, len(runs))
            marker = "o" if len(values) == 1 else ""
            below = opacity(index, len(runs))
            ax.plot(places, curve, color=shade, label=run.label, linewidth=width, alpha=below, marker=marker)
            if len(runs) == 1:
                tenth = max(1, round(len(values) / 10))
                low, high = float(values[:tenth].mean()), float(values[-tenth:].mean())
                ax.fill_between(places, curve, float(values.mean()), color=shade, alpha=0.12, linewidth=0)
                _name_heights(ax, theme, {"mean": float(values.mean()), "worst 10 %": low, "best 10 %": high})
        ax.set_xlim(0, 100)
        if len(runs) > 1:
            legend(picture, ax, columns=3)
        return picture

    file = file_name(f"test-{name}" if of == "test" else name)
    return Picture(f"spread-{file}", f"{words(name)} of each client{where}, in order", draw)


def _name_heights(ax: Axes, theme: Theme, heights: dict[str, float]) -> None:
    """A dotted line at each height, named beside the axes; those that lie close together share a name's place."""
    low, high = ax.get_ylim()
    places: list[tuple[float, list[str]]] = []
    for name, height in sorted(heights.items(), key=lambda item: item[1]):
        ax.axhline(height, color=theme.faint, linewidth=1, linestyle=":")
        if places and height - places[-1][0] < 0.08 * (high - low):
            places[-1][1].append(name)
        else:
            places.append((height, [name]))
    for height, names in places:
        ax.annotate(
            "\n".join(reversed(names)), (100, height), (6, 0), textcoords="offset points", va="center", fontsize=8,
            annotation_clip=False,
        )  # fmt: skip


def _values(run: RecordedRun, of: ClientSet, name: str) -> Float64:
    """The clients' values from the worst to the best."""
    measured = run.measured.get(of)
    if measured is None or name not in measured.names:
        return np.empty(0)
    values = measured.column(name)
    ordered = np.sort(values[np.isfinite(values)])
    return ordered[::-1] if smaller_is_better(name) else ordered
