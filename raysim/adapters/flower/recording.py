"""What a run of an app leaves behind: a row for each round and for each message, its model, its log."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raysim.adapters.flower.client import Replied
from raysim.adapters.flower.grid import Sent
from raysim.adapters.flower.library import library
from raysim.adapters.flower.records import arrays_of, numbers, round_of, size_of
from raysim.errors import StorageError
from raysim.files import replacing, storing
from raysim.rounds.rows import TOTAL, RoundRow
from raysim.tracking.log import EventLog

_GROWN = 1.25
"""How much longer than at the last writing a table is when it is written again."""


@dataclass(slots=True)
class _AppRound:
    number: int
    began: float
    rows: list[dict[str, Any]] = field(default_factory=list)
    own: dict[str, float] = field(default_factory=dict)
    up: int = 0
    down: int = 0


class Recording:
    """Told of messages, replies and what strategies measure; tells the observer of every finished round.

    A metric is `train/…`, `evaluate/…` or another message type's mean over the clients that replied, weighted by
    `num-examples` where all have it, unless the app's strategy says what it aggregated; `test/…` is the server's own
    evaluation. A round is over when a message of a later one is sent.
    """

    def __init__(
        self, log: EventLog, began: Callable[[int | None], None], told: Callable[[RoundRow], None], folder: Path
    ) -> None:
        """Nothing yet.

        Args:
            log: of the run.
            began: called once, with the number of rounds as far as it is known.
            told: called with every finished round.
            folder: where the tables go.
        """
        self._log, self._began, self._told, self._folder = log, began, told, folder
        self._lock = threading.RLock()
        self._started = False
        self._trainings = 0
        self._numbers: dict[str, int] = {}
        self._finished: list[_AppRound] = []
        self._open: dict[int, _AppRound] = {}
        self._metrics: dict[int, dict[str, float]] = {}
        self._written = 0
        self.strategy: Any = None
        self.model: dict[str, Any] | None = None
        self._sent_model: dict[str, Any] | None = None
        self.failures = 0

    def expect(self, rounds: int | None, strategy: Any) -> None:
        """A strategy begins; how many rounds it will take."""
        with self._lock:
            self.strategy = strategy if strategy is not None else self.strategy
            if not self._started:
                self._started = True
                self._began(rounds)

    def sent(self, message: Any) -> None:
        """A message is sent."""
        with self._lock:
            self.expect(None, None)
            number = self._numbers[message.metadata.message_id] = self._round_of(message)
            self._close_before(number)
            self._at(number).down += size_of(message.content)
            if message.metadata.message_type.partition(".")[0] == "evaluate" and self.model is None:
                self._sent_model = message.content

    def received(self, sent: Sent, answer: Replied) -> None:
        """The server program gets a reply."""
        with self._lock:
            number = self._numbers.pop(sent.message.metadata.message_id)
            row: dict[str, Any] = {
                "round": number,
                "type": sent.message.metadata.message_type,
                "partition": sent.partition,
                "node": sent.message.metadata.dst_node_id,
                "seconds": answer.seconds,
                "error": answer.error,
                "weight": None,
                "metrics": {},
            }
            if answer.error is None:
                row["metrics"], row["weight"] = numbers(answer.reply.content)
                self._at(number).up += size_of(answer.reply.content)
            else:
                self.failures += 1
                self._log.warning(
                    "client failed", round=number, partition=sent.partition, error=answer.error, trace=answer.traceback
                )
            self._at(number).rows.append(row)

    def measured(self, round: int, where: str, metrics: Mapping[str, Any] | None) -> None:
        """What a strategy says that it measured."""
        with self._lock:
            found = self._metrics.setdefault(round, {})
            for name, value in (metrics or {}).items():
                if isinstance(value, int | float | np.number) and not isinstance(value, bool):
                    found[f"{where}/{name}"] = float(value)
            self._at(round)

    def arrays(self, arrays: Mapping[str, Any]) -> None:
        """The model, as a strategy aggregated it."""
        with self._lock:
            self.model = dict(arrays)

    def finish(self) -> None:
        """The server program is done: close the last round, and write everything.

        Raises:
            StorageError: the disk refuses.
        """
        with self._lock:
            self._close_before(None)
            self._write()
            if self.model is None and self._sent_model is not None:
                self.model = arrays_of(self._sent_model)
            if self.model is not None:
                self._write_model(self.model)

    @property
    def rounds(self) -> list[RoundRow]:
        """Finished rounds, without what came before the first."""
        return [self._row(one) for one in self._finished if one.number > 0]

    def _round_of(self, message: Any) -> int:
        told = round_of(message)
        if told is not None:
            return told
        if message.metadata.message_type.partition(".")[0] == "train" and not self._open_training():
            self._trainings += 1
        return self._trainings

    def _open_training(self) -> bool:
        """Whether messages that name no round are sent while the last training has no reply yet."""
        current = self._open.get(self._trainings) if self._trainings else None
        return current is not None and not any(row["type"].startswith("train") for row in current.rows)

    def _at(self, number: int) -> _AppRound:
        if number not in self._open:
            self._open[number] = _AppRound(number, time.monotonic())
        return self._open[number]

    def _close_before(self, number: int | None) -> None:
        for one in sorted(self._open):
            if number is None or one < number:
                closed = self._open.pop(one)
                closed.own["total"] = time.monotonic() - closed.began
                self._finished.append(closed)
                if closed.number > 0:
                    self._told(self._row(closed))
        rows = sum(len(one.rows) for one in self._finished)
        if rows > _GROWN * self._written:
            self._write()
            self._written = rows

    def _row(self, one: _AppRound) -> RoundRow:
        trained = [row for row in one.rows if row["type"].startswith("train")]
        good = [row for row in trained if row["error"] is None]
        return RoundRow(
            round=one.number,
            cohort=len(trained),
            trained=len(good),
            dropped=len(trained) - len(good),
            clamped=0,
            samples=int(sum(row["weight"] or 0 for row in good)),
            steps=0,
            transport_up=one.up,
            transport_down=one.down,
            lr=float("nan"),
            seconds={TOTAL: one.own["total"]},
            metrics=_means(one.rows) | self._metrics.get(one.number, {}),
            wire_up=one.up,
            wire_down=one.down,
        )

    def _write(self) -> None:
        rounds = [self._row(one) for one in self._finished]
        names = sorted({name for row in rounds for name in row.metrics})
        columns: dict[str, Any] = {
            "round": [row.round for row in rounds],
            "clients": [row.cohort for row in rounds],
            "failed": [row.dropped for row in rounds],
            "samples": [row.samples for row in rounds],
            "wire_up": [row.wire_up for row in rounds],
            "wire_down": [row.wire_down for row in rounds],
            "seconds": [row.seconds[TOTAL] for row in rounds],
            **{name: pa.array([row.metrics.get(name) for row in rounds], pa.float64()) for name in names},
        }
        _write_table(self._folder / "rounds.parquet", columns)
        rows = [row for one in self._finished for row in one.rows]
        rows.sort(key=lambda row: (row["round"], row["type"] != "train", row["type"], row["partition"]))
        of = sorted({name for row in rows for name in row["metrics"]})
        clients: dict[str, Any] = {
            "round": pa.array([row["round"] for row in rows], pa.int64()),
            "type": pa.array([row["type"] for row in rows], pa.string()),
            "partition": pa.array([row["partition"] for row in rows], pa.int64()),
            "node": pa.array([row["node"] for row in rows], pa.int64()),
            "seconds": pa.array([row["seconds"] for row in rows], pa.float64()),
            "weight": pa.array([row["weight"] for row in rows], pa.float64()),
            "error": pa.array([row["error"] for row in rows], pa.string()),
            **{f"metric/{name}": pa.array([row["metrics"].get(name) for row in rows], pa.float64()) for name in of},
        }
        _write_table(self._folder / "clients.parquet", clients)

    def _write_model(self, arrays: Mapping[str, Any]) -> None:
        from safetensors.numpy import save_file

        file = self._folder / "model.safetensors"
        whole = {name: np.array(array, order="C") for name, array in arrays.items()}
        kept = {name: array for name, array in whole.items() if array.dtype.kind in "biuf"}
        if len(kept) < len(whole):
            self._log.warning("arrays that are no numbers are not in the model", names=sorted(set(whole) - set(kept)))
        try:
            with replacing(file) as temporary:
                save_file(kept, temporary, metadata={"flwr": library().version})
        except Exception as error:
            raise StorageError(f"{file}: cannot be written ({error}); make room there") from error


def _means(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The mean of each number over the clients that replied, by type of message."""
    found: dict[str, float] = {}
    for kind in dict.fromkeys(row["type"] for row in rows):
        good = [row for row in rows if row["type"] == kind and row["error"] is None]
        good.sort(key=lambda row: row["partition"])
        for name in sorted({name for row in good for name in row["metrics"]}):
            having = [row for row in good if name in row["metrics"]]
            weights = [row["weight"] for row in having]
            if any(weight is None for weight in weights) or not sum(weights):
                weights = [1.0] * len(having)
            total = sum(weight * row["metrics"][name] for weight, row in zip(weights, having, strict=True))
            found[f"{kind.partition('.')[0]}/{name}"] = total / sum(weights)
    return found


def _write_table(file: Path, columns: Mapping[str, Any]) -> None:
    with storing(file), replacing(file) as temporary:
        pq.write_table(pa.table(dict(columns)), temporary)
