"""Pictures of what was learned: metrics over rounds, of one run or of several laid over each other."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from raysim.tracking.headline import measure
from raysim.tracking.metric_names import ACCOUNTS, parts_of, words
from raysim.tracking.report.recorded import RecordedRun
from raysim.tracking.report.style import Picture, Theme, add_to_legend, axes, color, legend, whole_numbers
from raysim.tracking.units import figure as figure_text

MARKED_POINTS = 25
PARTS = ("validation", "test", "train")
_DASHES = ("-", "--", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
CONSENSUS = "gossip/consensus"
TRAIN_LOSS = (
    "train is what clients minimise, over their own steps while the model changes, class weights and corrected logits "
    "included; validation and test are the plain loss of the model after the round."
)
"""Why the curves of two losses are not to be compared."""


def learning_curves(runs: Sequence[RecordedRun]) -> list[Picture]:
    """A picture for each thing that was measured on validation, test or training data: the headline's first."""
    headline = next((run.headline for run in runs if run.headline), None)
    return [_over_parts(runs, what, headline) for what in measures(runs)]


def measures(runs: Sequence[RecordedRun]) -> list[str]:
    """What was measured of the whole model, without where: the headline's measure first; no single classes."""
    headline = next((run.headline for run in runs if run.headline), None)
    plain = (name for run in runs for name in run.metrics if not name.startswith(ACCOUNTS))
    names = [name for name in plain if not parts_of(name).summary and not parts_of(name).of_class]
    if headline is not None and headline in names:
        names.insert(0, headline)
    return list(dict.fromkeys(measure(name) for name in names))


def series_of(runs: Sequence[RecordedRun], what: str) -> dict[str, str]:
    """The metrics that measure this, by the names of their curves: `train`, `validation`, `test`."""
    found = {name for run in runs for name in run.metrics if measure(name) == what}
    # A metric of no part (a user's own, `rank`) stands for itself.
    series = {part: f"{part}/{what}" for part in PARTS if f"{part}/{what}" in found}
    return series | {name: name for name in sorted(found) if name not in series.values() and not parts_of(name).summary}


def client_curves(runs: Sequence[RecordedRun]) -> list[Picture]:
    """A picture for each thing that was measured on the clients' own holdouts or test samples, but single classes."""
    means = [name for run in runs for name in run.metrics if name.startswith("clients/") and name.endswith("/mean")]
    names = [name for name in means if not parts_of(name).of_class]
    what = (name.removeprefix("clients/").removesuffix("/mean") for name in names)
    return [_over_clients(runs, one) for one in dict.fromkeys(what)]


def node_curves(runs: Sequence[RecordedRun]) -> list[Picture]:
    """Of nodes with models of their own: a picture for each thing that was measured, but single classes, and one of how
    far they are apart."""
    means = (name for run in runs for name in run.metrics if name.startswith("nodes/") and name.endswith("/mean"))
    names = [name.removeprefix("nodes/").removesuffix("/mean") for name in means if not parts_of(name).of_class]
    pictures = [_over_nodes(runs, one) for one in dict.fromkeys(names)]
    if any(CONSENSUS in run.metrics for run in runs):
        pictures.append(
            _curves(runs, "consensus", "Distance of the nodes' models from their mean", {"nodes": CONSENSUS})
        )
    return pictures


def _over_nodes(runs: Sequence[RecordedRun], what: str) -> Picture:
    part, _, measured = what.partition("/")
    series = {"mean model": what, "nodes, mean": f"nodes/{what}/mean", "worst node": f"nodes/{what}/worst"}
    return _curves(runs, f"nodes-{file_name(what)}", f"{words(measured)} of nodes' own models, {part} set", series)


def _curves(runs: Sequence[RecordedRun], name: str, title: str, series: dict[str, str]) -> Picture:
    """One picture of some metrics over the rounds."""

    def draw(theme: Theme) -> Figure:
        picture, ax = axes(theme, title, "round")
        if len(runs) == 1:
            for index, (label, metric) in enumerate(series.items()):
                _plot(ax, runs, runs[0], metric, color=color(theme, index), label=label)
        else:
            _overlay(ax, theme, runs, series)
        legend(picture, ax, columns=5 if len(runs) == 1 else 3)
        return picture

    return Picture(name, title, draw)


def _over_parts(runs: Sequence[RecordedRun], what: str, headline: str | None) -> Picture:
    series = series_of(runs, what)

    def draw(theme: Theme) -> Figure:
        picture, ax = axes(theme, words(what), "round")
        if len(runs) == 1:
            for index, (part, metric) in enumerate(series.items()):
                _plot(ax, runs, runs[0], metric, color=color(theme, index), label=part)
            _target(ax, theme, runs[0], what)
        else:
            _overlay(ax, theme, runs, series)
        for index, run in enumerate(runs):
            if headline in series.values() and headline is not None:
                shade = color(theme, list(series.values()).index(headline) if len(runs) == 1 else index)
                _mark_best(ax, theme, run, headline, shade, written=len(runs) == 1)
        legend(picture, ax, columns=5 if len(runs) == 1 else 3)
        return picture

    note = TRAIN_LOSS if {"train/loss"} < set(series.values()) else ""
    return Picture(f"curve-{file_name(what)}", f"{words(what)} over the rounds", draw, note)


def _over_clients(runs: Sequence[RecordedRun], what: str) -> Picture:
    series = {"best 10 %": f"clients/{what}/best10", "mean": f"clients/{what}/mean"}
    series["worst 10 %"] = f"clients/{what}/worst10"

    def draw(theme: Theme) -> Figure:
        own = "test samples" if what.startswith("test/") else "data"
        picture, ax = axes(theme, f"{words(what.removeprefix('test/'))} on the clients' own {own}", "round")
        if len(runs) == 1:
            best, worst = (runs[0].curve(series[of]) for of in ("best 10 %", "worst 10 %"))
            if len(best.rounds) == len(worst.rounds):
                ax.fill_between(best.rounds, worst.values, best.values, color=color(theme, 0), alpha=0.12, linewidth=0)
            for index, (name, metric) in zip((2, 0, 1), series.items(), strict=True):
                style = "-" if name == "mean" else "--"
                _plot(ax, runs, runs[0], metric, color=color(theme, index), label=name, linestyle=style)
        else:
            _overlay(ax, theme, runs, {name: series[name] for name in ("mean", "worst 10 %")})
        legend(picture, ax, columns=5 if len(runs) == 1 else 3)
        return picture

    return Picture(f"clients-{file_name(what)}", f"{words(what)} over clients: mean, worst and best 10 percent", draw)


def _overlay(ax: Axes, theme: Theme, runs: Sequence[RecordedRun], series: dict[str, str]) -> None:
    """A colour and a marker for each run, dashes for what was measured; the legend names each once.

    Later runs are thinner than those that they lie over, so that equal curves are all seen.
    """
    for index, run in enumerate(runs):
        style: dict[str, Any] = {"color": color(theme, index), "linewidth": line_width(index, len(runs))}
        style["alpha"] = opacity(index, len(runs))
        add_to_legend(ax, run.label, **style, marker=MARKERS[index % len(MARKERS)], markersize=5)
        for position, metric in enumerate(series.values()):
            dashes, marker = _DASHES[min(position, 2)], MARKERS[index % len(MARKERS)]
            _plot(ax, runs, run, metric, **style, linestyle=dashes, marker=marker)
    if len(series) > 1:
        for position, part in enumerate(series):
            add_to_legend(ax, part, color=theme.faint, linestyle=_DASHES[min(position, 2)])


def _plot(
    ax: Axes,
    runs: Sequence[RecordedRun],
    run: RecordedRun,
    metric: str,
    *,
    color: str,
    label: str | None = None,
    linestyle: str = "-",
    linewidth: float = 1.8,
    alpha: float = 1.0,
    marker: str = "o",
) -> None:
    rounds, values = run.curve(metric)
    if len(values):
        # Points are marked where they are few, or a run of one round would show nothing at all.
        few = max(len(other.curve(metric).values) for other in runs) <= MARKED_POINTS or len(values) == 1
        ax.plot(
            rounds,
            values,
            color=color,
            label=label,
            linestyle=linestyle,
            linewidth=linewidth,
            alpha=alpha,
            marker=marker if few else "",
            markersize=2.2 + 0.8 * linewidth,
        )
        whole_numbers(ax)


def _mark_best(ax: Axes, theme: Theme, run: RecordedRun, metric: str, shade: str, *, written: bool) -> None:
    best = run.best(metric)
    if best is None:
        return
    ax.plot(*best, marker="o", markersize=7, markerfacecolor=theme.background, markeredgecolor=shade, zorder=4)
    if written:
        ax.margins(y=0.12)
        ax.annotate(
            figure_text(best[1]),
            best,
            (0, 9),
            textcoords="offset points",
            ha="right" if best[0] > 0.9 * run.rounds else "center",
            fontsize=9,
            fontweight="bold",
        )


def _target(ax: Axes, theme: Theme, run: RecordedRun, what: str) -> None:
    stop = run.experiment.stop if run.experiment else None
    if stop is not None and stop.target is not None and run.headline is not None and measure(run.headline) == what:
        ax.axhline(stop.target, color=theme.faint, linewidth=1, linestyle=":", label=f"target {stop.target:g}")


def line_width(index: int, runs: int) -> float:
    """Of the n-th of several runs laid over each other: each thinner than the one before."""
    return 1.8 if runs == 1 else 1.6 + 3.0 * (runs - 1 - index) / (runs - 1)


def opacity(index: int, runs: int) -> float:
    """Of the n-th of several runs laid over each other: what lies below is a paler border of what lies above."""
    return 1.0 if index == runs - 1 else 0.6


def file_name(text: str) -> str:
    return re.sub(r"[^\w.-]+", "-", text).strip("-")
