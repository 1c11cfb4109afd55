"""A run as the report sees it: read once from its directory, whatever state that is in."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from raysim.arrays import Float64, Int64
from raysim.config import Experiment, read_yaml
from raysim.errors import ConfigError
from raysim.rounds.rows import PARTS, PHASES, ROUND_FIELDS, TOTAL
from raysim.tracking.configuration import chosen_keys, flatten
from raysim.tracking.confusion import Confusion, read_confusion
from raysim.tracking.directory import RunDirectory
from raysim.tracking.evidence import Evidence, read_evidence
from raysim.tracking.generated import GeneratedText, read_generated
from raysim.tracking.headline import OVER_CLIENTS, ClientSet, headline_metric, improves
from raysim.tracking.holdings import Holdings, read_holdings
from raysim.tracking.holdouts import ClientMetrics, read_holdouts
from raysim.tracking.log import read_events, reason_after
from raysim.tracking.metric_names import has_best
from raysim.tracking.reading import gathered, read_clients, read_rounds
from raysim.tracking.report.extremes import Extremes, read_extremes

SHOWN_WARNINGS = 50


class MetricCurve(NamedTuple):
    """A metric where it was measured: rounds and finite values of equal length."""

    rounds: Float64
    values: Float64


@dataclass(frozen=True, slots=True)
class Participation:
    """Who took part: an entry for each client that was ever sampled, ordered by id."""

    clients: Int64
    times: Int64
    """Rounds in which the client was sampled."""
    samples: Int64
    """Its training samples."""
    reasons: dict[str, int]
    """Why updates were left out, and how often."""


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """Everything that the report says about one run."""

    path: Path
    label: str
    experiment: Experiment | None
    """None where another version of raysim wrote the configuration."""
    config: dict[str, Any]
    """Dotted keys."""
    chosen: frozenset[str]
    """Keys that differ from their defaults."""
    environment: dict[str, Any]
    columns: dict[str, Float64]
    """The rounds table; NaN where a metric was not measured."""
    participation: Participation | None
    measured: dict[ClientSet, ClientMetrics]
    """The last evaluation on each of the clients' own sets."""
    warnings: tuple[dict[str, Any], ...]
    """The last `SHOWN_WARNINGS` of the log."""
    warning_count: int
    closed: bool
    """Whether the writer of the tables closed them."""
    reason: str | None
    """Why the run ended."""
    generated: tuple[GeneratedText, ...] = ()
    """What its models wrote, round by round."""
    evidence: tuple[Evidence, ...] = ()
    """What attacks on the run found."""
    confusion: tuple[int, Confusion] | None = None
    """Round of the last evaluation of the server's sets, and which classes it took for which."""
    holdings: Holdings | None = None
    """Who holds what."""
    extremes: Extremes | None = None
    """The clients that are served best and worst."""

    @property
    def rounds(self) -> int:
        """Committed rounds."""
        return len(self.columns["round"])

    @property
    def planned_rounds(self) -> int | None:
        """Rounds that the configuration asks for."""
        value = self.config.get("rounds")
        return value if isinstance(value, int) else None

    @property
    def metrics(self) -> list[str]:
        """Metrics that were measured at least once, in the order of the table."""
        fixed = {column.name for column in ROUND_FIELDS}
        return [name for name in self.columns if name not in fixed and len(self.curve(name).values)]

    @property
    def headline(self) -> str | None:
        """The metric that the run is judged by."""
        return headline_metric(self.metrics, self.experiment)

    def curve(self, metric: str) -> MetricCurve:
        """A metric over the rounds; empty if it was not measured."""
        values = self.columns.get(metric, np.full(self.rounds, np.nan))
        measured = np.isfinite(values)
        return MetricCurve(self.columns["round"][measured], values[measured])

    def best(self, metric: str) -> tuple[int, float] | None:
        """Round and value of the metric's best; None if it was not measured, or has no better and worse."""
        if not has_best(metric):
            return None
        best: tuple[int, float] | None = None
        for round, value in zip(*self.curve(metric), strict=True):
            if improves(metric, value, best[1] if best else None):
                best = (int(round), float(value))
        return best

    def total(self, column: str) -> float:
        """Sum of a column over the rounds; a run of an older version may not have it in all of them."""
        return float(np.nansum(self.columns.get(column, np.zeros(0))))

    @property
    def seconds(self) -> dict[str, Float64]:
        """Seconds of each phase, by round; `other` is what the phases leave of the totals.

        Where rounds overlap, a round's phases may exceed its total, so the remainder is taken over all rounds and
        assigned where a round has some.
        """
        phases = {phase: self.columns[f"seconds/{phase}"] for phase in PHASES}
        rest = self.columns[f"seconds/{TOTAL}"] - sum(phases.values(), np.zeros(self.rounds))
        other = np.maximum(rest, 0.0)
        share = max(0.0, float(rest.sum())) / float(other.sum()) if other.any() else 0.0
        return {**phases, "other": share * other}

    @property
    def parts(self) -> dict[str, Float64]:
        """Seconds of each of `PARTS`, by round; a run of an older version may not have them."""
        columns = {part: self.columns.get(f"seconds/{part}") for part in PARTS}
        return {part: column for part, column in columns.items() if column is not None}

    @property
    def time(self) -> float:
        """Seconds spent in rounds, by the clock; where rounds overlap, their phases add up to more."""
        return self.total(f"seconds/{TOTAL}")

    @property
    def overlaps(self) -> bool:
        """Whether rounds were worked on side by side, so that phases add up to more than the time by the clock."""
        return sum(float(seconds.sum()) for seconds in self.seconds.values()) > 1.001 * self.time

    @property
    def clients_per_second(self) -> float:
        """Clients trained per second spent in rounds; NaN if nothing was timed."""
        return self.total("trained") / self.time if self.time > 0 else float("nan")

    @property
    def tokens_per_second(self) -> float:
        """Tokens trained on per second spent in rounds; NaN if nothing was timed."""
        return self.total("tokens") / self.time if self.time > 0 else float("nan")


def read_run(path: str | Path, label: str | None = None) -> RecordedRun:
    """Read a run for the report.

    Raises:
        RunError: it is not a run, or one of its files is damaged.
    """
    run = RunDirectory.open(path)
    table = read_rounds(run)
    try:
        experiment = Experiment.from_yaml(run.config)
    except ConfigError:
        experiment = None
    config = experiment.to_dict() if experiment else read_yaml(run.config)
    measured = {of: found for of in OVER_CLIENTS if (found := read_holdouts(run, of)) is not None}
    warnings: deque[dict[str, Any]] = deque(maxlen=SHOWN_WARNINGS)
    warning_count, reason = 0, None
    for event in read_events(run.log):
        if event.get("level") in ("warning", "error"):
            warnings.append(event)
            warning_count += 1
        reason = reason_after(event, reason)
    return RecordedRun(
        path=run.path,
        label=label or run.path.resolve().name,
        experiment=experiment,
        config=flatten(config),
        chosen=chosen_keys(experiment) if experiment else frozenset(),
        environment=run.read_environment(),
        columns={name: _floats(table[name]) for name in table.schema.names},
        participation=_participation(run),
        measured=measured,
        warnings=tuple(warnings),
        warning_count=warning_count,
        closed=run.rounds.exists() and not run.rounds.with_suffix(".arrows").exists(),
        reason=reason,
        generated=read_generated(run),
        evidence=read_evidence(run),
        confusion=read_confusion(run),
        holdings=read_holdings(run),
        extremes=read_extremes(run, measured),
    )


def labels(paths: Sequence[Path]) -> list[str]:
    """A short name for each run: its folder's, with as much of the path in front as tells them apart."""
    resolved = [path.resolve() for path in paths]
    depth = 1
    while len({path.parts[-depth:] for path in resolved}) < len(set(resolved)):
        depth += 1
    return ["/".join(path.parts[-depth:]) for path in resolved]


def _floats(column: pa.ChunkedArray) -> Float64:
    return np.asarray(column.to_numpy(), dtype=np.float64)


def _participation(run: RunDirectory) -> Participation | None:
    clients = times = samples = np.zeros(0, dtype=np.int64)
    reasons: Counter[str] = Counter()
    for part in gathered(read_clients(run, ["client", "samples", "dropped"]), 1 << 18):
        seen = np.concatenate([clients, part["client"].to_numpy()])
        # Of a client's entries the last is kept for its size; its sightings are added up.
        clients, inverse = np.unique(seen, return_inverse=True)
        known = len(times)
        times = np.bincount(inverse, np.concatenate([times, np.ones(len(seen) - known)])).astype(np.int64)
        merged = np.zeros(len(clients), dtype=np.int64)
        merged[inverse] = np.concatenate([samples, part["samples"].to_numpy()])
        samples = merged
        reasons.update(reason for reason in part["dropped"].to_pylist() if reason is not None)
    if not len(clients):
        return None
    return Participation(clients, times, samples, dict(reasons.most_common()))
