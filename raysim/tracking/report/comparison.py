"""The report of several runs: what they were, how they differ, and their curves over each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from raysim.errors import RunError
from raysim.tracking.configuration import ABSENT
from raysim.tracking.headline import measure
from raysim.tracking.report.attacks import attacks
from raysim.tracking.report.bands import bands
from raysim.tracking.report.bars import time_by_run
from raysim.tracking.report.by_class import class_pictures
from raysim.tracking.report.curves import client_curves, learning_curves, node_curves
from raysim.tracking.report.groups import compare_read
from raysim.tracking.report.markup import Content, Html, element, folded, join, key, section, swatch, table
from raysim.tracking.report.recorded import RecordedRun
from raysim.tracking.report.sections import Place, configuration, fairness, standing, written
from raysim.tracking.report.spread import sorted_clients
from raysim.tracking.report.style import LIGHT
from raysim.tracking.report.virtual import cost_curves
from raysim.tracking.units import duration, figure, quantity, rate, size

# Where and how a run writes and computes; seldom what one compares.
_NOT_COMPARED = (
    "name",
    *(f"tracking.{key}" for key in ("directory", "checkpoint_every", "keep", "clients", "observers")),
)


def comparison(runs: Sequence[RecordedRun], place: Place) -> Html:
    """The whole page's content."""
    names = list(dict.fromkeys(run.experiment.name if run.experiment else run.label for run in runs))
    title = ", ".join(names) if len(names) <= 4 else f"{len(runs)} runs"
    means = _over_seeds(runs, place)
    parts = [
        element("h1", title),
        element("p", f"{len(runs)} runs side by side", kind="lead"),
        means,
        section("Results", _results(runs)),
        section("What differs", _differences(runs)),
    ]
    if any(run.metrics for run in runs):
        pictures = [
            *learning_curves(runs),
            *cost_curves(runs),
            *client_curves(runs),
            *node_curves(runs),
            *sorted_clients(runs),
        ]
        curves = place(pictures)
        shown = folded("Curves of each run", curves) if means.text else curves
        parts.append(section("Learning", shown, *fairness(runs)))
    parts.append(attacks(runs, place))
    if by_class := class_pictures(runs):
        parts.append(section("Classes", place(by_class)))
    if any(run.time > 0 for run in runs):
        parts.append(section("Where the time went", place([time_by_run(runs)])))
    return join([*parts, *(folded(f"{run.label}: configuration", configuration(run)) for run in runs)])


def _over_seeds(runs: Sequence[RecordedRun], place: Place) -> Html:
    """Runs that differ in their seeds alone as one: means and intervals, where there are several."""
    try:
        found = compare_read(runs)
    except RunError:  # no common metric, or the same seed twice
        return Html("")
    if all(len(group.seeds) == 1 for group in found.groups):
        return Html("")
    numbers = table(found.head, found.rows())
    pictures = [bands(found), *(bands(compare_read(runs, metric)) for metric in _beside(found.metric, runs))]
    return section("Means over seeds, with 95 % intervals", numbers, place(pictures))


def _beside(metric: str, runs: Sequence[RecordedRun]) -> Iterator[str]:
    """What is shown beside a metric, where all runs measured it: the loss there, and the same over clients."""
    part, what = metric.partition("/")[0], measure(metric)
    for name in (f"{part}/loss", f"clients/{what}/mean", f"clients/{what}/worst10"):
        if name != metric and all(name in run.metrics and len(run.curve(name).values) for run in runs):
            yield name


def _results(runs: Sequence[RecordedRun]) -> Html:
    headline = next((run.headline for run in runs if run.headline), None)
    head = ["run", headline or "metric", "best", "in round", "rounds", "time", "clients/s", "traffic", "standing"]
    rows: list[list[Content]] = []
    for index, run in enumerate(runs):
        curve = run.curve(headline) if headline else None
        best = run.best(headline) if headline else None
        rows.append(
            [
                join([swatch(index % len(LIGHT.series)), run.label]),
                figure(float(curve.values[-1]) if curve and len(curve.values) else None),
                figure(best[1] if best else None),
                str(best[0]) if best else "–",
                quantity(run.rounds),
                duration(run.time),
                rate(run.clients_per_second),
                size(run.total("transport_up") + run.total("transport_down")),
                standing(run)[0],
            ]
        )
    return table(head, rows)


def _differences(runs: Sequence[RecordedRun]) -> Html:
    keys = dict.fromkeys(key for run in runs for key in run.config if key not in _NOT_COMPARED)
    rows: list[list[Content]] = []
    for name in keys:
        values = [run.config.get(name, ABSENT) for run in runs]
        if any(value != values[0] for value in values):
            cells = [element("code", "–" if value == ABSENT else written(value)) for value in values]
            rows.append([key(name), *cells])
    if not rows:
        return element("p", "Nothing: all have the same configuration.", kind="faint")
    return table(["key", *(run.label for run in runs)], rows, text_columns=len(runs) + 1)
