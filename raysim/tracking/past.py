"""The runs in a folder: what each was, how far it came and how well it did, read without its clients' table."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from raysim.config import Experiment, read_yaml
from raysim.config.parsing import Malformed, parse_yaml
from raysim.errors import ConfigError, RunError
from raysim.files import looked_up, storing
from raysim.locks import FolderLock
from raysim.rounds.rows import ROUND_FIELDS, TOTAL
from raysim.tracking.configuration import flatten
from raysim.tracking.directory import RunDirectory
from raysim.tracking.headline import headline_metric, improves
from raysim.tracking.log import read_events, reason_after
from raysim.tracking.metric_names import has_best
from raysim.tracking.reading import read_batches, stored_schema
from raysim.tracking.report import markup
from raysim.tracking.report.glance import glance
from raysim.tracking.report.result_table import ResultTable, TableName, run_table
from raysim.tracking.units import duration, figure

State = Literal["running", "finished", "unfinished", "damaged"]
"""`unfinished` is a run that no process works on and that has no recorded end: it was killed."""

_OF_APPS = {"clients", "failed", "samples", "wire_up", "wire_down", "seconds"}
"""Columns of a round of Flower's apps that are no metrics."""
_PLAIN = ("state", "reason", "rounds", "planned", "seconds", "metric", "last", "best", "best_round")


@dataclass(frozen=True, slots=True)
class PastRun:
    """A run at a glance.

    Attributes:
        began: when its first sitting began; None if the log does not say.
        state: what it is doing now.
        reason: why it ended, or what is damaged.
        rounds, planned: committed rounds, and those that the configuration asks for.
        seconds: spent in rounds, by the clock.
        metric: that it is judged by; None if nothing was measured.
        last, best: its last and best values; NaN where there is none.
        best_round: the round of the best; 0 where there is none.
        config: dotted keys of its configuration.
    """

    path: Path
    began: datetime.datetime | None
    state: State
    reason: str | None
    rounds: int = 0
    planned: int | None = None
    seconds: float = 0.0
    metric: str | None = None
    last: float = math.nan
    best: float = math.nan
    best_round: int = 0
    config: Mapping[str, Any] = field(default_factory=dict)

    def key(self, name: str) -> str | None:
        """The dotted key that is meant: this one, or the name of a section that is chosen by name; None if neither."""
        return next((key for key in (name, f"{name}.name") if key in self.config), None)

    def value(self, name: str) -> Any:
        """What the configuration has there; None where it has nothing."""
        return self.config.get(self.key(name) or name)

    def cells(self) -> dict[str, str]:
        """What a table says of it, by column."""
        return {
            "run": self.path.name,
            "began": self.began.astimezone().strftime("%m-%d %H:%M") if self.began else "–",
            "state": self.state,
            "algorithm": str(self.value("algorithm") or "–"),
            "data": str(self.value("data.source") or "–"),
            "metric": self.metric or "–",
            "rounds": str(self.rounds) if self.planned in (None, self.rounds) else f"{self.rounds}/{self.planned}",
            "time": duration(self.seconds),
            "last": figure(self.last),
            "best": figure(self.best),
        }

    def table(self, name: TableName = "rounds") -> ResultTable:
        """Its rounds, a row each, or its `clients`, a row for each client of each round.

        Raises:
            RunError: the file is damaged.
        """
        return run_table(RunDirectory(self.path), name)

    def _repr_html_(self) -> str:
        facts = {**self.cells(), "run": str(self.path)}
        return glance(RunDirectory(self.path), self.path.name, self.metric, list(facts.items()))

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, for programs."""
        values = {name: getattr(self, name) for name in _PLAIN}
        began = self.began.isoformat() if self.began else None
        return {"run": str(self.path), "began": began, **values, "config": dict(self.config)}


class PastRuns(list[PastRun]):
    """Runs in a list, which a notebook shows as a table."""

    def table(self) -> ResultTable:
        """A row a run: its values but the configuration."""
        rows = [{name: value for name, value in run.to_dict().items() if name != "config"} for run in self]
        return ResultTable(pa.Table.from_pylist(rows))

    def to_pandas(self) -> Any:
        """The same as a `pandas.DataFrame`.

        Raises:
            ConfigError: pandas is not installed.
        """
        return self.table().to_pandas()

    def _repr_html_(self) -> str:
        cells = [run.cells() for run in self]
        return markup.table(list(cells[0]), [list(one.values()) for one in cells], text_columns=6).text if cells else ""


def past_runs(folder: str | Path, filters: Sequence[str] = ()) -> PastRuns:
    """The runs in a folder, newest first.

    Args:
        folder: whose folders are run directories; others are passed over.
        filters: of which each must hold: `KEY=VALUE` compares a key of the configuration, as YAML, or the `state`;
            anything else is part of the run's name.

    Raises:
        ConfigError: a filter names a key that no run has.
        RunError: the folder is missing, or is itself a run.
    """
    place = looked_up(folder)
    with storing(place, "cannot be read"):
        if not place.is_dir():
            raise RunError(f"{folder}: no such folder; `raysim run` makes runs in tracking.directory, by default runs")
        if (place / "config.yaml").is_file():
            raise RunError(f"{folder}: is a run itself; give the folder that it is in")
        found = [past_run(path) for path in place.iterdir() if _is_run(path)]
    return PastRuns(newest_first(found, filters))


def _is_run(path: Path) -> bool:
    return (path / "config.yaml").is_file() or RunDirectory(path).app.is_file()


def newest_first(runs: Sequence[PastRun], filters: Sequence[str] = ()) -> list[PastRun]:
    """The runs that pass all filters (see `past_runs`), in order.

    Raises:
        ConfigError: a filter names a key that no run has.
    """
    for one in filters:
        runs = _filtered(runs, one)
    return sorted(runs, key=lambda run: (run.began.timestamp() if run.began else 0.0, run.path.name), reverse=True)


def past_run(path: Path) -> PastRun:
    """One run at a glance, whatever state it is in: a damaged one says what is damaged."""
    run = RunDirectory(path)
    began, reason = None, None
    try:
        for event in read_events(run.log):
            reason = reason_after(event, reason)
            began = began or _time(event.get("time"))
        config = _config(run)
        rounds, seconds, metric, curve = _measured(run, config)
    except (RunError, ConfigError, OSError) as error:
        return PastRun(path, began, "damaged", str(error))
    running = FolderLock.writer(path) is not None
    best, best_round = math.nan, 0
    if metric is not None and has_best(metric):
        for number, value in curve:
            if improves(metric, value, best if best_round else None):
                best, best_round = value, number
    return PastRun(
        path=path,
        began=began,
        state="running" if running else "finished" if reason is not None else "unfinished",
        reason=None if running else reason,
        rounds=rounds,
        planned=config["rounds"] if isinstance(config.get("rounds"), int) else None,  # an app's are in its own keys
        seconds=seconds,
        metric=metric,
        last=curve[-1][1] if curve else math.nan,
        best=best,
        best_round=best_round,
        config=config,
    )


def _config(run: RunDirectory) -> dict[str, Any]:
    """Dotted keys, as written where another version of raysim wrote them."""
    if run.app.is_file():
        return {"algorithm.name": "flower", "data.source.name": "the app's own", **flatten(read_yaml(run.app))}
    try:
        return flatten(Experiment.from_yaml(run.config).to_dict())
    except ConfigError:
        return flatten(read_yaml(run.config))


def _measured(run: RunDirectory, config: Mapping[str, Any]) -> tuple[int, float, str | None, list[tuple[int, float]]]:
    """Committed rounds, seconds, the headline metric, and where it was measured: (round, value)."""
    schema = stored_schema(run.rounds)
    if schema is None:
        return 0, 0.0, None, []
    fixed = {column.name for column in ROUND_FIELDS} | _OF_APPS
    names = [name for name in schema.names if name not in fixed]
    wanted = config.get("stop.metric")
    metric = wanted if wanted in names else headline_metric(names)
    total = "seconds" if run.app.is_file() else f"seconds/{TOTAL}"
    columns = [name for name in ("round", total, metric) if name is not None and name in schema.names]
    rounds, seconds, curve = 0, 0.0, []
    for batch in read_batches(run.rounds, columns):
        rounds = max(rounds, pc.max(batch["round"]).as_py())
        seconds += float(pc.sum(batch[total]).as_py()) if total in columns else 0.0
        if metric is not None:
            values = zip(batch["round"].to_pylist(), batch[metric].to_pylist(), strict=True)
            curve += [(number, value) for number, value in values if value is not None and math.isfinite(value)]
    return rounds, seconds, metric, curve


def _filtered(runs: Sequence[PastRun], text: str) -> list[PastRun]:
    key, equals, value = text.partition("=")
    if not equals:
        return [run for run in runs if text in run.path.name]
    if key == "state":
        return [run for run in runs if run.state == value]
    known = [run for run in runs if run.key(key) is not None]
    if runs and not known:
        raise ConfigError(f"--filter {text}: no run here has the key {key!r}; keys are state and those of config.yaml")
    try:
        wanted = parse_yaml(value)
    except Malformed:
        wanted = value
    return [run for run in known if run.value(key) in (wanted, value)]


def _time(text: object) -> datetime.datetime | None:
    try:
        return datetime.datetime.fromisoformat(str(text))
    except ValueError:
        return None
