"""Pictures of cost and participation: where the time went, which clients took part, which were dropped."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from raysim.arrays import Float64
from raysim.rounds.rows import PHASES
from raysim.tracking.report.recorded import Participation, RecordedRun
from raysim.tracking.report.style import Picture, Theme, axes, legend, logarithmic, whole_numbers
from raysim.tracking.units import duration

BARS = 40
BAR_WIDTH = 0.86
PHASE_COLORS = dict(zip((*PHASES, "other"), (5, 0, 6, 4, 1, 2, 3, 7), strict=True))
"""Each phase's place in `Theme.colors`, the same in every picture and table."""


def time_over_rounds(run: RecordedRun) -> Picture:
    """Stacked bars: the time of each round by phase; of long runs, the means of equal groups of rounds."""

    def draw(theme: Theme) -> Figure:
        starts, sizes, _ = round_groups(run)
        means = {phase: np.add.reduceat(seconds, starts) / sizes for phase, seconds in run.seconds.items()}
        heights: Float64 = np.sum(list(means.values()), axis=0)
        unit, factor = time_unit(float(np.median(heights)))
        picture, ax = axes(theme, f"{unit.capitalize()} a round", "round")
        # One outline for each phase and lines between the rounds: a tenth of the time that as many bars would take.
        edges = np.append(starts, run.rounds) + 0.5
        bottom: Float64 = np.zeros(len(starts))
        for phase, values in means.items():
            if values.any():
                top = bottom + values * factor
                ax.stairs(top, edges, baseline=bottom, fill=True, label=phase, color=theme.colors[PHASE_COLORS[phase]])
                bottom = top
        taller = np.maximum(np.append(bottom, 0.0), np.append(0.0, bottom))
        ax.vlines(edges, 0, taller, color=theme.background, linewidth=1)
        # The first round pays for starting up; where it dwarfs the others, they are what should be seen.
        usual = float(heights[1:].max()) if len(heights) > 1 else 0.0
        if 0 < usual < heights[0] / 3:
            ax.set_ylim(0, usual * factor * 1.3)
            ax.annotate(f" {duration(float(heights[0]))}", (edges[1], usual * factor * 1.27), va="top")
        whole_numbers(ax)
        legend(picture, ax)
        return picture

    return Picture("time", "Time of each round by phase, as stacked bars", draw)


def time_by_run(runs: Sequence[RecordedRun]) -> Picture:
    """A bar for each run: the mean time of a round by phase."""

    def draw(theme: Theme) -> Figure:
        means = {
            phase: np.array([float(run.seconds[phase].sum()) / max(run.rounds, 1) for run in runs])
            for phase in (*PHASES, "other")
        }
        unit, factor = time_unit(float(np.max(np.sum(list(means.values()), axis=0))))
        picture, ax = axes(theme, f"Mean {unit} a round", unit, height=1.6 + 0.4 * len(runs))
        places = np.arange(len(runs))
        left: Float64 = np.zeros(len(runs))
        for phase, values in means.items():
            if values.any():
                shade = theme.colors[PHASE_COLORS[phase]]
                ax.barh(places, values * factor, 0.62, left * factor, label=phase, color=shade)
                left = left + values
        ax.set_yticks(places, [run.label for run in runs])
        ax.invert_yaxis()
        ax.grid(visible=False, axis="y")
        ax.grid(axis="x")
        legend(picture, ax)
        return picture

    return Picture("time", "Mean time of a round by phase, a bar for each run", draw)


def times_sampled(who: Participation, population: int | None) -> Picture:
    """How many clients were sampled how often, those that never were included where the population is known."""

    def draw(theme: Theme) -> Figure:
        picture, ax = axes(theme, "How often clients took part", "rounds that a client was sampled in")
        never = max(0, population - len(who.clients)) if population is not None else 0
        lowest, highest = 0 if never else int(who.times.min()), int(who.times.max())
        width = -(-(highest - lowest + 1) // BARS)
        starts = np.arange(lowest, highest + 1, width)
        counts = np.bincount((who.times - lowest) // width, minlength=len(starts))
        counts[0] += never
        ax.bar(starts + (width - 1) / 2, counts, BAR_WIDTH * width, color=theme.series[0])
        _counts_clients(ax)
        whole_numbers(ax)
        return picture

    return Picture("participation", "Histogram of the rounds that each client was sampled in", draw)


def client_sizes(who: Participation) -> Picture:
    """Training samples of the clients that took part; on a logarithmic axis where sizes span orders of magnitude."""

    def draw(theme: Theme) -> Figure:
        picture, ax = axes(theme, "Sizes of the clients that took part", "training samples")
        low, high = int(who.samples.min()), int(who.samples.max())
        bins = min(30, max(5, len(who.clients) // 3))
        edges: Float64 = np.linspace(low, high, bins + 1)
        if low > 0 and high > 50 * low:
            edges = np.exp(np.linspace(np.log(low), np.log(high), bins + 1))
            logarithmic(ax, low, high)
        elif high - low < bins:
            edges = np.arange(low, high + 2, dtype=np.float64) - 0.5
            whole_numbers(ax)
        ax.hist(who.samples, bins=edges.tolist(), color=theme.series[2], rwidth=0.92)
        _counts_clients(ax)
        return picture

    return Picture("sizes", "Histogram of the training samples of the clients that took part", draw)


def dropped_over_rounds(run: RecordedRun) -> Picture:
    """Clients left out of each round; of long runs, the sums of equal groups of rounds."""

    def draw(theme: Theme) -> Figure:
        starts, sizes, middles = round_groups(run)
        picture, ax = axes(theme, "Dropped clients", "round")
        ax.bar(middles, np.add.reduceat(run.columns["dropped"], starts), sizes * BAR_WIDTH, color=theme.series[1])
        ax.set_xlim(0.5, run.rounds + 0.5)
        _counts_clients(ax)
        whole_numbers(ax)
        return picture

    return Picture("dropped", "Clients dropped in each round", draw)


def round_groups(run: RecordedRun) -> tuple[npt.NDArray[np.intp], Float64, Float64]:
    """At most `BARS` groups of equally many rounds: where each starts, its size, and its mean round."""
    starts = np.arange(0, run.rounds, -(-run.rounds // BARS))
    sizes = np.diff(starts, append=run.rounds).astype(np.float64)
    return starts, sizes, np.add.reduceat(run.columns["round"], starts) / sizes


def time_unit(seconds: float) -> tuple[str, float]:
    """The unit in which times of about this length are drawn, and how many of them are in a second."""
    return ("seconds", 1.0) if seconds >= 1 else ("milliseconds", 1000.0)


def _counts_clients(ax: Axes) -> None:
    ax.set_ylabel("clients")
    ax.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=6, min_n_ticks=1))
