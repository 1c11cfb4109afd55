"""Leases: some of a round's clients for one worker, and the report of a finished one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raysim.aggregation import Peers
from raysim.arrays import Float64, Int32, Int64
from raysim.rounds.task import RoundTask

NO_CLIENTS: Int64 = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Lease:
    """Some of a round's clients, all of one class, handed to one worker. One given out again has a higher `attempt`.

    Attributes:
        round: the step after the version that they start from.
        positions: of each among the clients that its step takes in, `[n]`.
        into: the step that takes each in, `[n]`; in a synchronous round all are `round`.
        part: of the clients that each belongs to, `[n]` (see `RoundTask.part`).
        home: id of the node that has most of what they keep from round to round; None where they keep nothing yet.
        peers: what the clients know of one another, where the rule has a protocol.
    """

    round: int
    attempt: int
    lr: float
    positions: Int32
    clients: Int64
    weights: Float64
    steps: Int64
    turn: Int64
    into: Int32
    participation: float = 1.0
    total: float = 1.0
    group: int = 0
    home: str | None = None
    peers: Peers | None = None
    part: Int32 | None = None

    @classmethod
    def of(cls, task: RoundTask, places: npt.ArrayLike, group: int = 0) -> Lease:
        """The lease of the clients at these places of the task, longest client first."""
        chosen = np.asarray(places, dtype=np.int32)
        chosen = chosen[np.lexsort((chosen, -task.steps[chosen]))]
        return cls(
            task.round,
            0,
            task.lr,
            positions=task.positions[chosen],
            clients=task.clients[chosen],
            weights=task.weights[chosen],
            steps=task.steps[chosen],
            turn=task.turn[chosen],
            into=task.into[chosen],
            participation=task.participation,
            total=task.total,
            group=group,
            peers=None if task.begun is None else task.begun.peers,
            part=None if task.part is None else task.part[chosen],
        )

    def cut(self, most: int) -> list[Lease]:
        """Leases of at most `most` clients each."""
        if len(self.clients) <= most:
            return [self]
        parts = [slice(start, start + most) for start in range(0, len(self.clients), most)]
        return [self.only(part) for part in parts]

    def only(self, chosen: Any) -> Lease:
        """Some of its clients, chosen as NumPy indexes `[n]`."""
        return replace(
            self,
            positions=self.positions[chosen],
            clients=self.clients[chosen],
            weights=self.weights[chosen],
            steps=self.steps[chosen],
            turn=self.turn[chosen],
            into=self.into[chosen],
            part=None if self.part is None else self.part[chosen],
        )

    @property
    def steps_into(self) -> list[int]:
        """The steps that take in some of its clients, ascending: one record is made for each."""
        first = int(self.into[0])
        return [first] if (self.into == first).all() else np.unique(self.into).tolist()

    def going(self, into: int) -> Lease:
        """Those of its clients that one step takes in."""
        return self.only(self.into == into)


@dataclass(frozen=True, slots=True)
class LeaseReport:
    """Small facts about the clients of a finished lease that one step takes in.

    Attributes:
        facts: a row for each client (`raysim.rounds.rows.CLIENT_SCHEMA`), in the order of `positions`; `weight` is
            not yet normalised, `wire_down` without what a federation sends to all clients alike.
        positions: positions of these clients in the cohort; ascending where they were trained.
        clamped: clients whose weight was clamped to the stated range.
        seconds: time copying the model into the rows (`broadcast`), training (`train`), and what that goes into
            (`raysim.rounds.rows.PARTS`).
        transport_up: bytes of the partial sum.
        keepers: clients with a new state.
        tokens: in the batches of the clients that were not dropped.
        into: the step.
    """

    facts: pa.RecordBatch
    positions: Int32
    clamped: int
    seconds: Mapping[str, float]
    transport_up: int
    keepers: Int64 = field(default_factory=lambda: NO_CLIENTS)
    tokens: int = 0
    into: int = 0
