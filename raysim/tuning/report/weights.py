"""The simplex of weights: how much each client or group counts, beside what it holds."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from raysim.arrays import Float64
from raysim.tracking.report.markup import Content, Html, table
from raysim.tracking.report.style import Picture, Theme, axes, legend
from raysim.tuning.report.recorded import GroupFacts, RecordedStudy, last_weights

SHOWN = 40


def weight_bars(recorded: RecordedStudy) -> Picture | None:
    """A bar for each group: its weight, the share of the samples that it holds, and its label skew."""
    weights, facts = last_weights(recorded), recorded.groups
    if weights is None or facts is None:
        return None
    spread = _spread(recorded)

    def draw(theme: Theme) -> Figure:
        shown = slice(0, SHOWN)
        names = facts.groups.names[shown]
        figure, ax = axes(theme, "How much each counts", "share", height=1.6 + 0.34 * len(names))
        places = np.arange(len(names))
        ax.barh(places - 0.2, weights[shown], 0.38, color=theme.series[1], label="weight of the winner")
        ax.barh(places + 0.2, facts.samples[shown], 0.38, color=theme.series[0], label="share of the samples")
        if spread is not None:
            low, high = spread
            ax.hlines(places - 0.2, low[shown], high[shown], color=theme.text, linewidth=1, label="best trials")
        if facts.skew is not None:
            ax.plot(facts.skew[shown], places, "d", ms=4, color=theme.series[2], label="label skew")
        ax.set_yticks(places, list(names))
        ax.invert_yaxis()
        ax.grid(visible=False, axis="y")
        ax.grid(axis="x")
        legend(figure, ax, columns=2)
        return figure

    return Picture("weights", "Weight of each client or group beside its share of the samples and its label skew", draw)


def weight_table(recorded: RecordedStudy) -> Html | None:
    """The same as numbers."""
    weights, facts = last_weights(recorded), recorded.groups
    if weights is None or facts is None:
        return None
    head: list[Content] = ["who", "weight", "of all samples", "weight / share", "label skew"]
    return table(head, [_row(facts, weights, k) for k in range(len(weights))])


def _row(facts: GroupFacts, weights: Float64, k: int) -> list[Content]:
    share = float(facts.samples[k])
    skew = "–" if facts.skew is None else f"{facts.skew[k]:.2f}"
    ratio = f"{weights[k] / share:.2f}" if share else "–"
    return [facts.groups.names[k], f"{weights[k]:.3f}", f"{share:.3f}", ratio, skew]


def _spread(recorded: RecordedStudy) -> tuple[Float64, Float64] | None:
    """Smallest and largest weight of each group among the best tenth of the trials."""
    known = [trial for trial in recorded.complete if "weights" in trial.user_attrs]
    if len(known) < 10:
        return None
    ordered = sorted(known, key=lambda trial: float(trial.values[0]), reverse=recorded.upwards[0])
    best = np.array([trial.user_attrs["weights"] for trial in ordered[: max(2, len(known) // 10)]])
    return best.min(axis=0), best.max(axis=0)
