"""A round as the driver draws it: what to train, and what to evaluate afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from raysim.aggregation import Begun
from raysim.arrays import Float64, Int32, Int64
from raysim.rounds.ranges import EvaluationRange


@dataclass(frozen=True, slots=True)
class RoundTask:
    """Clients that train: all that one server step takes in, or all that start from one version of the model.

    Version v of the model is what step v makes. In a synchronous round both are the same clients: all start from the
    version before the round, and the round's step takes them in.

    Attributes:
        round: from 1: the step; or of clients that start together, the step after their version.
        lr: client learning rate.
        clients: ids, `[m]`; in a synchronous round ascending.
        weights: base weights `[m]`, summing to 1 (see `Weighting`).
        steps: local steps of each, `[m]`: also what the work is estimated by.
        turn: keys the random choices of each, `[m]`: its batches, resampling and dropout. A client that trains twice
            from one round on repeats itself unless its turns differ; in a synchronous round all are the round.
        base: version that each starts from, `[m]`.
        into: the step that takes each in, `[m]`.
        positions: of each among the clients that its step takes in, `[m]`.
        part: of the clients that each belongs to, with a sum of its own in the step, `[m]`: its edge in a hierarchy;
            None where there is one sum.
        participation: the cohort's share of the whole population's weight.
        total: Σ of the cohort's weights before they were normalised.
        begun: the protocol of a rule that has one, once it has begun.
    """

    round: int
    lr: float
    clients: Int64
    weights: Float64
    steps: Int64
    turn: Int64
    base: Int32
    into: Int32
    positions: Int32
    participation: float = 1.0
    total: float = 1.0
    begun: Begun | None = None
    part: Int32 | None = None

    @classmethod
    def synchronous(
        cls,
        number: int,
        lr: float,
        clients: Int64,
        weights: Float64,
        steps: Int64,
        participation: float = 1.0,
        total: float = 1.0,
    ) -> RoundTask:
        """A round whose clients all start from the version before it, and are taken in by its step."""
        m = len(clients)
        turn, positions = np.full(m, number), np.arange(m, dtype=np.int32)
        base, into = np.full(m, number - 1, np.int32), np.full(m, number, np.int32)
        return cls(number, lr, clients, weights, steps, turn, base, into, positions, participation, total)

    def only(self, chosen: Any) -> RoundTask:
        """The round of some of its clients, chosen as NumPy indexes `[n]`; their weights stay."""
        return replace(
            self,
            clients=self.clients[chosen],
            weights=self.weights[chosen],
            steps=self.steps[chosen],
            turn=self.turn[chosen],
            base=self.base[chosen],
            into=self.into[chosen],
            positions=self.positions[chosen],
            part=None if self.part is None else self.part[chosen],
        )


@dataclass(frozen=True, slots=True)
class RoundWork:
    """All of a round: what to train, and what to evaluate afterwards.

    Attributes:
        task: what the round's step takes in.
        kept: the server after this round will be asked for (a checkpoint), so that it is best kept ready to hand.
        start: who starts from the version before the round, whatever step takes them in; None: those of the task.
        in_flight: who started from older versions, by version, and is taken in by this step or a later one: trained
            again by an executor that has not trained them, because it begins here.
        needed: older versions than its own that rounds after it still need.
        lost: why clients stay untrained, as they did when a recorded run was worked on, by the step that would have
            taken them in and their position there; in process only.
    """

    task: RoundTask
    ranges: tuple[EvaluationRange, ...] = ()
    kept: bool = False
    start: RoundTask | None = None
    in_flight: tuple[RoundTask, ...] = ()
    needed: frozenset[int] = field(default_factory=frozenset)
    lost: Mapping[tuple[int, int], str] = field(default_factory=dict)

    @property
    def starting(self) -> RoundTask:
        """Who starts from the version before the round."""
        return self.task if self.start is None else self.start

    def starts(self, *, begins: bool) -> list[RoundTask]:
        """Who is to be trained before the round's step, by the version that they start from.

        Args:
            begins: whether no client that starts from an earlier version has been trained yet.
        """
        older = [task.only(task.into >= self.task.round) for task in self.in_flight] if begins else []
        return [task for task in (*older, self.starting) if len(task.clients)]

    def until(self, last: int) -> RoundWork:
        """Without those whom only steps behind `last` would take in: a resume trains them, if there is one."""
        if self.start is None:
            return self
        older = tuple(task.only(task.into <= last) for task in self.in_flight)
        return replace(self, start=self.start.only(self.start.into <= last), in_flight=older)
