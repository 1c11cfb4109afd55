"""How a model serves each client: what was measured on the clients' holdouts, from the worst served to the best."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from raysim.tracking.headline import smaller_is_better
from raysim.tracking.report.curves import file_name, titled
from raysim.tracking.report.recorded import Float64, RecordedRun
from raysim.tracking.report.style import Picture, Theme, axes, color, legend

POINTS = 400
"""Clients drawn of very many, evenly spaced in their order."""


def sorted_clients(runs: Sequence[RecordedRun]) -> list[Picture]:
    """A picture for each metric but the loss: its value for each client, in order, a curve for each run."""
    names = dict.fromkeys(name for run in runs if run.measured is not None for name in run.measured.names)
    return [_sorted(runs, name) for name in names if name != "loss"]


def _sorted(runs: Sequence[RecordedRun], name: str) -> Picture:
    def draw(theme: Theme) -> Figure:
        picture, ax = axes(theme, f"{titled(name)} of each client, the worst served first", "percent of the clients")
        for index, run in enumerate(runs):
            values = _values(run, name)
            if not len(values):
                continue
            shown = np.unique(np.linspace(0, len(values) - 1, POINTS).round().astype(np.int64))
            places, curve = (shown + 0.5) * 100 / len(values), values[shown]
            shade = color(theme, index)
            ax.plot(places, curve, color=shade, label=run.label, marker="o" if len(values) == 1 else "")
            if len(runs) == 1:
                tenth = max(1, round(len(values) / 10))
                low, high = float(values[:tenth].mean()), float(values[-tenth:].mean())
                ax.fill_between(places, curve, float(values.mean()), color=shade, alpha=0.12, linewidth=0)
                for height, text in ((float(values.mean()), "mean"), (low, "worst 10 %"), (high, "best 10 %")):
                    ax.axhline(height, color=theme.faint, linewidth=1, linestyle=":")
                    ax.annotate(text, (100, height), (0, 2), textcoords="offset points", ha="right", fontsize=8)
        ax.set_xlim(0, 100)
        if len(runs) > 1:
            legend(picture, ax, columns=3)
        return picture

    return Picture(f"spread-{file_name(name)}", f"{titled(name)} of each client, in order", draw)


def _values(run: RecordedRun, name: str) -> Float64:
    """The clients' values from the worst to the best."""
    if run.measured is None or name not in run.measured.names:
        return np.empty(0)
    values = run.measured.column(name)
    ordered = np.sort(values[np.isfinite(values)])
    return ordered[::-1] if smaller_is_better(name) else ordered
