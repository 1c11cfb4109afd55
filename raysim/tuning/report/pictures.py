"""Pictures of a search: its history, what was tried, what mattered, what was stopped."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import optuna
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from optuna.trial import FrozenTrial, TrialState

from raysim.arrays import Float64
from raysim.tracking.report.style import HEIGHT, Picture, Theme, axes, legend, logarithmic, whole_numbers
from raysim.tuning.report.recorded import WEIGHT, RecordedStudy, value_of
from raysim.tuning.words import spoken

SHOWN = 8
"""Parameters in the pictures that show several."""


def history(recorded: RecordedStudy) -> Picture:
    """The objective of every trial, and the best so far."""

    def draw(theme: Theme) -> Figure:
        figure, ax = axes(theme, recorded.names[0], "trial")
        complete = recorded.complete
        numbers = [trial.number for trial in complete]
        values = np.array([value_of(trial) for trial in complete])
        ax.plot(numbers, values, "o", ms=4, color=theme.series[0], label="complete", alpha=0.8)
        pruned = [t for t in recorded.in_state(TrialState.PRUNED) if t.intermediate_values]
        if pruned and recorded.experiment.tuning.objective[0].of in ("last", "best", "mean"):
            last = [t.intermediate_values[max(t.intermediate_values)] for t in pruned]
            ax.plot([t.number for t in pruned], last, "x", ms=4, color=theme.series[1], label="pruned", alpha=0.8)
        best = np.maximum.accumulate(values) if recorded.upwards[0] else np.minimum.accumulate(values)
        ax.step(numbers, best, where="post", color=theme.series[2], label="best so far")
        if numbers and numbers[0] == 0:
            ax.axhline(values[0], color=theme.faint, linewidth=1, linestyle=":", label="as it stands")
        whole_numbers(ax)
        legend(figure, ax)
        return figure

    return Picture("history", f"{recorded.names[0]} of each trial and the best so far", draw)


def slices(recorded: RecordedStudy) -> Picture:
    """The objective against each parameter by itself."""
    names = recorded.varied[:SHOWN]

    def draw(theme: Theme) -> Figure:
        columns = min(len(names), 2)
        rows = -(-len(names) // columns)
        figure, first = axes(theme, f"{recorded.names[0]} against each parameter", names[0], height=1.0 + 1.9 * rows)
        first.remove()
        for place, name in enumerate(names, start=1):
            ax = figure.add_subplot(rows, columns, place)
            _plain(ax)
            trials = [trial for trial in recorded.complete if name in recorded.values_of(trial)]
            shade = [trial.number for trial in trials]
            x, labels = _positions([recorded.values_of(trial)[name] for trial in trials], _choices(trials[0], name))
            ax.scatter(x, [value_of(trial) for trial in trials], c=shade, s=12, cmap="viridis")
            if labels is not None:
                # An option to a line: the words of a section do not fit beside each other.
                lines = ["\n".join(part[:18] for part in label.split(", ")[:5]) for label in labels]
                ax.set_xticks(range(len(labels)), lines, fontsize=6.5)
                ax.set_xlim(-0.5, len(labels) - 0.5)
            elif _is_logarithmic(trials[0], name):
                logarithmic(ax, min(x), max(x))
            elif all(value.is_integer() for value in x):
                whole_numbers(ax)
            ax.set_xlabel(name, fontsize=8)
        return figure

    return Picture("slices", "The objective against each parameter; later trials are lighter", draw)


def importances(recorded: RecordedStudy) -> Picture | None:
    """How much of the objective's variance each parameter explains (fANOVA, Hutter et al. 2014)."""
    found = importance(recorded)
    if not found:
        return None

    def draw(theme: Theme) -> Figure:
        shown = list(found.items())[: 2 * SHOWN]
        figure, ax = axes(theme, "What mattered", "share of the variance explained", height=1.2 + 0.28 * len(shown))
        ax.barh([name for name, _ in shown], [value for _, value in shown], 0.65, color=theme.series[0])
        ax.invert_yaxis()
        ax.grid(visible=False, axis="y")
        ax.grid(axis="x")
        return figure

    return Picture("importances", "Importance of each parameter as bars", draw)


def importance(recorded: RecordedStudy) -> dict[str, float]:
    """Importance of each parameter; empty where there are too few trials, or all have the same value."""
    if len(recorded.complete) < 5 or len({value_of(trial) for trial in recorded.complete}) < 2:
        return {}
    several = len(recorded.names) > 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = optuna.importance.get_param_importances(
                recorded.study,
                evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0),
                target=(lambda trial: trial.values[0]) if several else None,
            )
        except (ValueError, RuntimeError):  # a space that changes with every trial has no common parameters
            return {}
    keys = {name: value for name, value in found.items() if not name.startswith(WEIGHT)}
    if len(keys) < len(found):  # a coordinate of the simplex belongs to no single weight
        keys["all weights together"] = sum(value for name, value in found.items() if name.startswith(WEIGHT))
    return dict(sorted(keys.items(), key=lambda item: -item[1])) if len(keys) > 1 else {}


def parallel_coordinates(recorded: RecordedStudy) -> Picture:
    """A line for each trial through all its values; the best in colour."""
    names = recorded.varied[:SHOWN]

    def draw(theme: Theme) -> Figure:
        figure, ax = axes(theme, "All values of each trial", "")
        trials = sorted(recorded.complete, key=value_of, reverse=not recorded.upwards[0])
        best = set(range(len(trials) - max(1, len(trials) // 10), len(trials)))
        columns = [_unit(recorded, trials, name) for name in names]
        values = np.array([value_of(trial) for trial in trials])
        span = float(np.ptp(values)) or 1.0
        columns.append((values - values.min()) / span)
        for index in range(len(trials)):
            chosen = index in best
            line = [column[index] for column in columns]
            ax.plot(
                range(len(columns)),
                line,
                color=theme.series[1] if chosen else theme.series[0],
                alpha=0.9 if chosen else 0.15,
                linewidth=1.4 if chosen else 0.8,
            )
        ax.set_xticks(range(len(columns)), [*names, recorded.names[0]], rotation=25, ha="right", fontsize=8)
        ax.set_yticks([0, 1], ["low", "high"])
        return figure

    return Picture("parallel", "Parallel coordinates of all trials; the best tenth stands out", draw)


def stopped(recorded: RecordedStudy) -> Picture | None:
    """The objective of trials by round: of complete ones, and of those that were stopped."""
    pruned = recorded.in_state(TrialState.PRUNED)
    if not pruned:
        return None

    def draw(theme: Theme) -> Figure:
        figure, ax = axes(theme, "Stopped early", "round")
        for trials, color, name in (
            (recorded.complete, theme.series[0], "complete"),
            (pruned, theme.series[1], "pruned"),
        ):
            for number, trial in enumerate(t for t in trials if t.intermediate_values):
                rounds = sorted(trial.intermediate_values)
                ax.plot(
                    rounds,
                    [trial.intermediate_values[r] for r in rounds],
                    color=color,
                    alpha=0.45,
                    linewidth=1,
                    marker="o" if len(rounds) == 1 else None,
                    ms=3,
                    label=name if number == 0 else None,
                )
        whole_numbers(ax)
        legend(figure, ax)
        return figure

    return Picture("stopped", "The objective over the rounds of complete and of pruned trials", draw)


def pareto(recorded: RecordedStudy) -> Picture | None:
    """The first two objectives against each other, and their front."""
    if len(recorded.names) < 2:
        return None

    def draw(theme: Theme) -> Figure:
        figure, ax = axes(theme, "Pareto front", recorded.names[1])
        front = {trial.number for trial in recorded.study.best_trials}
        points = [(t.values[1], t.values[0], t.number in front) for t in recorded.complete]
        ax.plot(*_pairs([p for p in points if not p[2]]), "o", ms=4, color=theme.series[0], alpha=0.5, label="trials")
        ax.plot(*_pairs(sorted(p for p in points if p[2])), "o-", ms=5, color=theme.series[1], label="front")
        ax.set_ylabel(recorded.names[0])
        legend(figure, ax)
        return figure

    return Picture("pareto", f"{recorded.names[0]} against {recorded.names[1]}, with the Pareto front", draw)


def confirmation(recorded: RecordedStudy) -> Picture | None:
    """The winner and the baseline on each fresh seed, side by side."""
    confirmed = recorded.confirmed
    if confirmed is None:
        return None

    def draw(theme: Theme) -> Figure:
        figure, ax = axes(theme, f"{confirmed.metric} on fresh seeds", "", height=HEIGHT)
        for base, won in zip(confirmed.baseline, confirmed.winner, strict=True):
            ax.plot([0, 1], [base, won], "-", color=theme.grid, linewidth=1.5)
        ax.plot(np.zeros(len(confirmed.seeds)), confirmed.baseline, "o", color=theme.series[0], label="as it stands")
        ax.plot(np.ones(len(confirmed.seeds)), confirmed.winner, "o", color=theme.series[1], label="winner")
        ax.set_xlim(-0.5, 1.5)
        ax.set_xticks([0, 1], ["as it stands", "winner"])
        return figure

    return Picture("confirmation", "The winner and the experiment as it stands, paired by seed", draw)


def _plain(ax: Axes) -> None:
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(length=0, labelsize=7)
    ax.grid(axis="y")
    ax.set_axisbelow(True)


def _pairs(points: Sequence[tuple[float, float, bool]]) -> tuple[list[float], list[float]]:
    return [x for x, _, _ in points], [y for _, y, _ in points]


def _positions(values: Sequence[object], choices: Sequence[object]) -> tuple[list[float], list[str] | None]:
    """Places on an axis; with their labels, in the order of the choices, where the values are no numbers."""
    numbers = [float(value) for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) == len(values):
        return numbers, None
    order = list(dict.fromkeys([*choices, *values]))
    shown = [choice for choice in order if choice in values]
    return [float(shown.index(value)) for value in values], [spoken(choice) for choice in shown]


def _choices(trial: FrozenTrial, name: str) -> Sequence[object]:
    """What a parameter was chosen from; nothing where it is a number."""
    return tuple(getattr(trial.distributions.get(name), "choices", ()))


def _is_logarithmic(trial: FrozenTrial, name: str) -> bool:
    return bool(getattr(trial.distributions.get(name), "log", False))


def _unit(recorded: RecordedStudy, trials: Sequence[FrozenTrial], name: str) -> Float64:
    """A parameter's values scaled to [0, 1]; NaN where a trial does not have it."""
    known = [trial for trial in trials if name in recorded.values_of(trial)]
    places, _ = _positions([recorded.values_of(trial)[name] for trial in known], _choices(known[0], name))
    values = np.array(places)
    if _is_logarithmic(known[0], name):
        values = np.log(values)
    span = float(np.ptp(values)) or 1.0
    by_number = dict(zip([trial.number for trial in known], ((values - values.min()) / span).tolist(), strict=True))
    return np.array([by_number.get(trial.number, np.nan) for trial in trials])
