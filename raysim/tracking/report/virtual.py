"""What a model cost: the headline metric over virtual time and over the bytes of a federation's messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from matplotlib.figure import Figure

from raysim.arrays import Float64
from raysim.rounds.rows import WIRE
from raysim.tracking.headline import measure
from raysim.tracking.metric_names import words
from raysim.tracking.report.markup import Content, Html, join, section, table
from raysim.tracking.report.recorded import RecordedRun
from raysim.tracking.report.style import Picture, Theme, axes, color, legend
from raysim.tracking.units import duration, figure, size

SECONDS, LATE, USED, STALENESS = (f"virtual/{what}" for what in ("seconds", "late", "utilisation", "staleness"))
_UNITS = {"virtual/joules": "J", "virtual/money": "of money"}
_MEBI = 2**20


def virtual_time(run: RecordedRun, place: Callable[[Iterable[Picture]], Html]) -> Html:
    """The section of one run; nothing where it has no devices."""
    at = run.curve(SECONDS).values
    if not len(at):
        return Html("")
    sent = float(_sent(run)[-1])
    steps = np.diff(at, prepend=0.0)
    rows: list[list[Content]] = [
        ["virtual time", duration(float(at[-1]))],
        ["a step", f"{figure(float(steps.mean()))} s ({figure(float(steps.min()))} to {figure(float(steps.max()))})"],
        ["messages", size(sent)],
        ["devices in use", f"{run.curve(USED).values.mean():.0%} of their time out, mean over the steps"],
        ["work lost", f"{run.total(LATE):,.0f} trips late, gone or dropped, {run.total('trained'):,.0f} in the model"],
    ]
    if len(staleness := run.curve(STALENESS).values):
        rows.append(["staleness", f"{figure(float(staleness.mean()))} server steps in the mean"])
    for name, unit in _UNITS.items():
        if len(spent := run.curve(name).values):
            rows.append([words(name.removeprefix("virtual/")).lower(), f"{figure(float(spent[-1]))} {unit}"])
    return section("Virtual time", join([place(cost_curves([run])), table([], rows, text_columns=2)]))


def cost_curves(runs: Sequence[RecordedRun]) -> list[Picture]:
    """The headline metric over virtual seconds, where runs have devices, and over bytes, where these or messages of
    different lengths make it another picture than that over rounds."""
    headline = next((run.headline for run in runs if run.headline), None)
    if headline is None:
        return []
    timed = [run for run in runs if len(run.curve(SECONDS).values)]
    each = {round(float(_sent(run)[-1]) / run.rounds) for run in runs if run.rounds}
    pictures = []
    if timed:
        pictures.append(_over(timed, headline, "virtual seconds", lambda run: run.columns[SECONDS]))
    if timed or len(each) > 1:
        pictures.append(_over(runs, headline, "MiB of messages, up and down", lambda run: _sent(run) / _MEBI))
    return pictures


def _over(runs: Sequence[RecordedRun], metric: str, unit: str, spent: Callable[[RecordedRun], Float64]) -> Picture:
    what = words(measure(metric))

    def draw(theme: Theme) -> Figure:
        picture, ax = axes(theme, f"{what} ({metric.partition('/')[0]})", unit)
        for index, run in enumerate(runs):
            values = run.columns.get(metric, np.full(run.rounds, np.nan))
            known = np.isfinite(values)
            shade, mark = color(theme, index), "o" if np.count_nonzero(known) == 1 else ""
            ax.plot(spent(run)[known], values[known], color=shade, linewidth=1.8, marker=mark, label=run.label)
        if len(runs) > 1:
            legend(picture, ax, columns=3)
        return picture

    short = unit.partition(" of")[0].replace(" ", "-").lower()
    return Picture(f"cost-{short}", f"{what} over {unit}", draw)


def _sent(run: RecordedRun) -> Float64:
    """Bytes that a federation has sent until each round, both ways."""
    each = sum((np.nan_to_num(run.columns.get(name, np.zeros(run.rounds))) for name in WIRE), np.zeros(run.rounds))
    total: Float64 = np.cumsum(each)
    return total
