"""A round as the driver draws it: what to train, and what to evaluate afterwards."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from raysim.aggregation import Begun
from raysim.arrays import Float64, Int64
from raysim.rounds.ranges import EvaluationRange


@dataclass(frozen=True, slots=True)
class RoundTask:
    """A round as the driver draws it: who takes part, and with what weight.

    Attributes:
        round: from 1.
        lr: client learning rate.
        clients: the cohort's ids, `[m]`; a client's index here is its position.
        weights: base weights `[m]`, summing to 1 (see `Weighting`).
        steps: local steps of each, `[m]`: also what the work is estimated by.
        turn: keys the random choices of each, `[m]`: its batches, resampling and dropout. A client that trains twice
            from one round on repeats itself unless its turns differ; in a synchronous round all are the round.
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
    participation: float = 1.0
    total: float = 1.0
    begun: Begun | None = None

    def only(self, chosen: Any) -> RoundTask:
        """The round of some of its clients, chosen as NumPy indexes `[n]`; their weights stay."""
        return replace(
            self,
            clients=self.clients[chosen],
            weights=self.weights[chosen],
            steps=self.steps[chosen],
            turn=self.turn[chosen],
        )


@dataclass(frozen=True, slots=True)
class RoundWork:
    """All of a round: what to train, and what to evaluate afterwards.

    Attributes:
        kept: the server after this round will be asked for (a checkpoint), so that it is best kept ready to hand.
    """

    task: RoundTask
    ranges: tuple[EvaluationRange, ...] = ()
    kept: bool = False
