"""What comes of a round: partial sums, the server's step, the recorded facts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from raysim.arrays import Float64
from raysim.rounds.digests import Digesting
from raysim.rounds.lease import LeaseReport
from raysim.rounds.ranges import Evaluated
from raysim.rounds.rows import RoundRow
from raysim.rounds.task import RoundTask, RoundWork


@dataclass(frozen=True, slots=True)
class ServerHandle:
    """The server after some round; with Ray, references that the driver never looks into.

    Attributes:
        state: of the algorithm.
        model: `[P]`.
        shared: the vectors of the state that clients may read, one after the other in float32; None where there are
            none.
        version: the round whose client states go with it.
        older: earlier versions of the model that later rounds still need, by their number.
        digest: of state and model; None where `tracking.chain` is off, and of handles that no round leads to.
    """

    state: Any
    model: Any
    shared: Any = None
    version: int = 0
    older: Mapping[int, Any] = field(default_factory=dict)
    digest: Digesting | None = None

    def of(self, work: RoundWork, task: RoundTask) -> Any:
        """The model that these clients start from, in a round that begins with this server."""
        return self.model if task.round == work.task.round else self.older[task.round - 1]

    def begun(self, work: RoundWork) -> tuple[int, Any] | None:
        """Number and model of the version that a step's one client started from; None where that is this one's."""
        version = int(work.task.base[0])
        return None if version == work.task.round - 1 else (version, self.older[version])

    def kept(self, work: RoundWork) -> dict[int, Any]:
        """What rounds after this one still need of the versions before it, of a round that begins with this server."""
        if not work.needed:
            return {}
        known = {**self.older, work.task.round - 1: self.model}
        return {version: known[version] for version in sorted(work.needed)}


@dataclass(frozen=True, slots=True)
class Trained:
    """A round's training, before the server has looked at it.

    Attributes:
        sums: partial sums, or references to them.
        reports: of each lease.
        workers: workers that took part.
        wall: seconds from the first lease given out to the last report.
        broadcasts: workers or nodes that the model was sent to.
    """

    sums: tuple[Any, ...]
    reports: tuple[LeaseReport, ...]
    workers: int
    wall: float
    broadcasts: int


@dataclass(frozen=True, slots=True)
class StepFacts:
    """What is known of a server's step.

    Attributes:
        check, apply: seconds.
        metrics: what the rule recorded.
        weights: of the clients that contributed, by position, `[k]`, summing to 1, where the rule gave them others than
            they came with.
        wire_up, wire_down: bytes of a federation's messages around the sum, beside records and models.
    """

    check: float
    apply: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    weights: Float64 | None = None
    wire_up: int = 0
    wire_down: int = 0


@dataclass(frozen=True, slots=True)
class Applied:
    """A round after the server's step: the new handle and how long reducing and applying took, in seconds."""

    server: ServerHandle
    reduce: float
    apply: float


@dataclass(frozen=True, slots=True)
class RoundFacts:
    """What is recorded of a finished round. Small, whatever the model.

    Attributes:
        row: all but the metrics of `evaluated`.
        clients: a row for each client of the cohort (`CLIENT_SCHEMA`), by ascending id.
        evaluated: sums over the ranges that were asked for, in any order.
    """

    row: RoundRow
    clients: pa.RecordBatch
    evaluated: tuple[Evaluated, ...]


@dataclass(frozen=True, slots=True)
class RoundDone:
    """A finished round: its facts, and the server after it.

    Attributes:
        arrived: rounds that came back in one call, this one the first of them; 0 for those behind it.
    """

    facts: RoundFacts
    server: ServerHandle
    arrived: int = 1
