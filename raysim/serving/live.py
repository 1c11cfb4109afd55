"""What the page of a run shows, part by part, from what the run has written so far."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raysim.rounds.rows import FAULTS
from raysim.serving.charts import Layer, Line, bar_chart, lane_chart, line_chart
from raysim.tracking import PastRun, RunDirectory, read_clients
from raysim.tracking.log import last_events
from raysim.tracking.metric_names import parts_of, words
from raysim.tracking.report.bars import PHASE_COLORS, round_groups
from raysim.tracking.report.curves import measures, series_of
from raysim.tracking.report.markup import Content, Html, element, folded, join, section, table, tile, tiles
from raysim.tracking.report.recorded import RecordedRun, read_run
from raysim.tracking.report.sections import configuration, numbers, time_spent, warnings
from raysim.tracking.report.style import Picture
from raysim.tracking.units import duration, figure, quantity, time_left

LOG_LINES = 60
SHOWN_CLIENTS = 8
SHOWN_WORKERS = 16
PIECES = 500
"""Clients of a round that are drawn one by one."""
PACE = 20
"""Rounds by whose time the rest of a run is estimated."""
_FAULTS = {
    "lost": "calls to actors that were lost",
    "hung": "calls to actors that were given up as hung",
    "retries": "pieces of work that were given out again",
    "dropped": "clients that were left out of a round",
}
FAULT_COLORS = {"dropped": 1, **dict(zip(FAULTS, (3, 4, 5), strict=True))}


@dataclass(frozen=True, slots=True)
class Moment:
    """A run as it stands.

    Attributes:
        name: in the folder.
        glance: its state, and how far it came.
        run: what it recorded.
        cohort: rows of clients.parquet of its last round; None where there are none.
        events: the last of its log.
    """

    name: str
    glance: PastRun
    run: RecordedRun
    cohort: pa.Table | None
    events: Sequence[Mapping[str, Any]]

    @classmethod
    def of(cls, name: str, glance: PastRun, run: RunDirectory) -> Moment:
        """Read the run.

        Raises:
            RunError: one of its files is damaged.
        """
        read = read_run(run.path, name)
        return cls(name, glance, read, _cohort(run, read.rounds), last_events(run.log, LOG_LINES))


def parts(moment: Moment) -> dict[str, Html]:
    """The page's parts by the ids of their places, from the top."""
    return {
        "head": _head(moment),
        "numbers": _numbers(moment),
        "learning": _learning(moment.run),
        "clients": _clients(moment),
        "faults": _faults(moment.run),
        "time": time_spent(moment.run, partial(_time, moment.run)),
        "warnings": warnings(moment.run),
        "log": _log(moment.events),
        "configuration": folded("Configuration", configuration(moment.run)),
    }


def badge(glance: PastRun) -> Html:
    """The state, in its colour."""
    kind = {"running": "status live", "finished": "status"}.get(glance.state, "status open")
    return element("span", glance.state, kind=kind)


def _head(moment: Moment) -> Html:
    glance, run = moment.glance, moment.run
    title = run.experiment.name if run.experiment else moment.name
    keys = ("algorithm.name", "data.source.name", "model.name", "data.partition.name")
    words = [str(run.config[key]) for key in keys if run.config.get(key) is not None]
    reason = [glance.reason] if glance.reason else []
    line = join([badge(glance), " · ".join([*reason, *words, moment.name])])
    return join([element("h1", title), element("p", line, kind="lead"), _progress(moment)])


def _progress(moment: Moment) -> Html:
    done, planned = moment.run.rounds, moment.glance.planned
    if not planned:
        return Html("")
    said = f"round {done:,} of {planned:,}"
    seconds = moment.run.columns.get("seconds/total")
    if moment.glance.state == "running" and seconds is not None and 0 < done < planned:
        said += f" · {time_left(float(np.mean(seconds[-PACE:])) * (planned - done))} left"
    bar = Html(f'<progress max="{planned}" value="{done}" aria-label="rounds"></progress>')
    return element("div", join([bar, element("span", said)]), kind="progress")


def _numbers(moment: Moment) -> Html:
    if not moment.run.rounds:
        what = "The first round is not done yet." if moment.glance.state == "running" else "It has no rounds."
        return tiles([tile("Rounds", "0", what)])
    return numbers(moment.run)


def _learning(run: RecordedRun) -> Html:
    charts = [_curves(run, what) for what in measures([run])] + [_over_clients(run, what) for what in _spread(run)]
    epsilons = [name for name in run.metrics if name.startswith("privacy/")]
    if epsilons:
        lines = [_line(run, name.removeprefix("privacy/"), name, index) for index, name in enumerate(epsilons)]
        charts.append(line_chart("Privacy spent", lines, figure))
    return section("Learning", element("div", join(charts), kind="charts")) if charts else Html("")


def _curves(run: RecordedRun, what: str) -> Html:
    series = series_of([run], what)
    return line_chart(words(what), [_line(run, part, name, i) for i, (part, name) in enumerate(series.items())], figure)


def _spread(run: RecordedRun) -> list[str]:
    """What was measured on the clients' own samples, single classes aside."""
    names = (name for name in run.metrics if name.startswith("clients/") and not parts_of(name).of_class)
    return [name.removesuffix("/mean") for name in names if name.endswith("/mean")]


def _over_clients(run: RecordedRun, what: str) -> Html:
    ends = {"best tenth": ("best10", 2), "mean": ("mean", 0), "worst tenth": ("worst10", 1)}
    lines = [_line(run, label, f"{what}/{end}", color, dashed=end != "mean") for label, (end, color) in ends.items()]
    of = "own test samples" if "/test/" in what else "own data"
    return line_chart(f"{words(what.rpartition('/')[2])} on clients’ {of}", lines, figure)


def _line(run: RecordedRun, label: str, metric: str, color: int, *, dashed: bool = False) -> Line:
    return Line(label, *run.curve(metric), color=color % 7, dashed=dashed)


def _time(run: RecordedRun, pictures: Iterable[Picture]) -> Html:
    """In the place of the report's picture of the same."""
    starts, sizes, _ = round_groups(run)
    layers = [
        Layer(phase, np.add.reduceat(seconds, starts) / sizes, PHASE_COLORS[phase])
        for phase, seconds in run.seconds.items()
    ]
    return bar_chart("Time of a round", _edges(run), layers, duration)


def _faults(run: RecordedRun) -> Html:
    counts = {name: run.columns[name] for name in _FAULTS if run.columns.get(name, np.zeros(1)).any()}
    if not counts:
        return Html("")
    starts = round_groups(run)[0]
    layers = [Layer(name, np.add.reduceat(count, starts), FAULT_COLORS[name]) for name, count in counts.items()]
    chart = bar_chart("Faults by round", _edges(run), layers, quantity, whole=True)
    rows: list[list[Content]] = [[_FAULTS[name], quantity(float(count.sum()))] for name, count in counts.items()]
    reasons = list(run.participation.reasons.items())[:SHOWN_CLIENTS] if run.participation else []
    rows += [[f"– {reason}", quantity(count)] for reason, count in reasons]
    return section("Faults", element("div", join([chart, table(["what", "times"], rows)]), kind="side"))


def _edges(run: RecordedRun) -> Any:
    return np.append(run.columns["round"][round_groups(run)[0]], run.columns["round"][-1] + 1)


def _clients(moment: Moment) -> Html:
    """The last round's cohort: who trained where, and the clients with the largest losses."""
    cohort = moment.cohort
    if cohort is None:
        return Html("")
    rows = cohort.to_pylist()
    lanes: dict[int, list[tuple[float, int, str]]] = {}
    for row in rows:
        lanes.setdefault(row["worker"], []).append((float(row["seconds"]), 1 if row["dropped"] else 0, _client(row)))
    if len(rows) > PIECES:  # too narrow to be told apart
        lanes = {
            worker: [(sum(one[0] for one in pieces), 0, f"{len(pieces)} clients")] for worker, pieces in lanes.items()
        }
    named = [("none" if worker < 0 else f"{worker}", lanes[worker]) for worker in sorted(lanes)][:SHOWN_WORKERS]
    chart = lane_chart("Seconds of each client, by worker", named, "s")
    worst = sorted(rows, key=lambda row: -1.0 if row["loss"] is None else -_finite(row["loss"]))[:SHOWN_CLIENTS]
    head = ["client", "samples", "steps", "loss", "time", "worker"]
    cells: list[list[Content]] = [
        [
            str(row["client"]),
            quantity(row["samples"]),
            quantity(row["steps"]),
            figure(row["loss"]),
            duration(row["seconds"]),
            row["dropped"] or str(row["worker"]),
        ]
        for row in worst
    ]
    note = f"{len(worst)} of {quantity(len(rows))}, the largest training loss first."
    side = element("div", join([table(head, cells), element("p", note, kind="faint")]))
    title = f"Clients of round {rows[0]['round']:,}"
    return section(title, element("div", join([chart, side]), kind="side"))


def _finite(loss: float) -> float:
    return loss if np.isfinite(loss) else float("inf")


def _client(row: Mapping[str, Any]) -> str:
    said = f"client {row['client']}: {duration(row['seconds'])}, loss {figure(row['loss'])}"
    return f"{said}, dropped: {row['dropped']}" if row["dropped"] else said


def _log(events: Sequence[Mapping[str, Any]]) -> Html:
    if not events:
        return Html("")
    lines = []
    for event in reversed(events):
        fields = " ".join(f"{k}={v}" for k, v in event.items() if k not in ("time", "level", "event", "traceback"))
        level = str(event.get("level", ""))
        time = element("time", str(event.get("time", ""))[11:19])
        mark = element("b", level) if level != "info" else Html("")
        lines.append(
            element("li", join([time, mark, str(event.get("event", "")), element("span", fields)]), kind=level)
        )
    return section("Log, newest first", element("ol", join(lines), kind="log"))


def _cohort(run: RunDirectory, number: int) -> pa.Table | None:
    """The rows of one round; None where there are none."""
    batches = (batch.filter(pc.equal(batch["round"], number)) for batch in read_clients(run))
    found = [batch for batch in batches if batch.num_rows]
    return pa.Table.from_batches(found) if found else None
