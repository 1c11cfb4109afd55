"""What travels between the driver and its workers: the job, leases of clients, and what comes back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from torch import nn

from raysim.arrays import Float64, Int32, Int64
from raysim.config import Experiment
from raysim.data import DataInfo, FederationSpec
from raysim.models import FrozenBase, build_model, copy_module, exclusive_torch
from raysim.tracking.rows import RoundRow
from raysim.training import EngineChoice, ExactSums, torch_threads
from raysim.training.metrics import Scores

NOBODY: Int64 = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Job:
    """All that a worker needs to know, once. `module` is the user's own, where one was handed over.

    Attributes:
        base: what modules of this job share in this process.
    """

    experiment: Experiment
    federation: FederationSpec
    engine: EngineChoice
    module: nn.Module | None = None
    base: FrozenBase = field(default_factory=FrozenBase, compare=False, repr=False)

    def build_module(self, info: DataInfo, *, share_frozen: bool = True) -> nn.Module:
        """The model with its first weights; a module of their own for everyone who asks.

        Args:
            share_frozen: whether its frozen parameters are those of the other modules of this process, and of the
                module that was handed over.

        Raises:
            ModelError: it cannot be built, or copied.
        """
        experiment = self.experiment
        # Some initialisers compute, and give other bits with other threads.
        with exclusive_torch(), torch_threads(self.engine.threads):
            own = None if self.module is None else copy_module(self.module, share_frozen=share_frozen)
            loss = experiment.training.loss
            module = build_model(experiment.model, info, seed=experiment.seed, loss=loss, module=own)
            if own is None and share_frozen:
                self.base.adopt(module)
        return module


@dataclass(frozen=True, slots=True)
class RoundTask:
    """A round as the driver draws it: who takes part, and with what weight.

    Attributes:
        round: from 1.
        lr: client learning rate.
        clients: the cohort's ids, `[m]`; a client's index here is its position.
        weights: base weights `[m]`, summing to 1 (see `Weighting`).
        steps: local steps of each, `[m]`: also what the work is estimated by.
        participation: the cohort's share of the whole population's weight.
        rows: whether what clients send is kept one by one (`raysim.aggregation.rows`), not summed by the workers.
    """

    round: int
    lr: float
    clients: Int64
    weights: Float64
    steps: Int64
    participation: float = 1.0
    rows: bool = False


@dataclass(frozen=True, slots=True)
class ServerRange:
    """Evaluate the model on samples `[start, stop)` of the server's set."""

    part: Literal["validation", "test"]
    start: int
    stop: int

    @property
    def text(self) -> str:
        """For the line of an error."""
        return f"evaluating samples {self.start} to {self.stop - 1} of the {self.part} set"


@dataclass(frozen=True, slots=True)
class ClientRange:
    """Evaluate the model on what these clients, `[n]`, have for it (`client_sets`), each by itself."""

    clients: Int64

    @property
    def text(self) -> str:
        """For the line of an error."""
        return f"evaluating {_some(self.clients)}"


@dataclass(frozen=True, slots=True)
class TrainRange:
    """The loss of the broadcast model on all training samples of these clients, `[n]`, each by itself."""

    clients: Int64

    @property
    def text(self) -> str:
        """For the line of an error."""
        return f"the training loss of {_some(self.clients)}"


def _some(clients: Int64) -> str:
    return f"client {clients[0]}" if len(clients) == 1 else f"clients {clients[0]}, …"


EvaluationRange = ServerRange | ClientRange | TrainRange


@dataclass(frozen=True, slots=True)
class RoundWork:
    """All of a round: what to train, and what to evaluate afterwards.

    Attributes:
        kept: the server after this round will be asked for (a checkpoint), so that it is best kept ready to hand.
    """

    task: RoundTask
    ranges: tuple[EvaluationRange, ...] = ()
    kept: bool = False


@dataclass(frozen=True, slots=True)
class Lease:
    """Some of a round's clients, all of one class, handed to one worker. One given out again has a higher `attempt`.

    Attributes:
        home: id of the node that has most of what they keep from round to round; None where they keep nothing yet.
    """

    round: int
    attempt: int
    lr: float
    positions: Int32
    clients: Int64
    weights: Float64
    steps: Int64
    participation: float = 1.0
    group: int = 0
    rows: bool = False
    home: str | None = None

    @classmethod
    def of(cls, task: RoundTask, positions: npt.ArrayLike, group: int = 0) -> Lease:
        """The lease of these positions, longest client first."""
        chosen = np.asarray(positions, dtype=np.int32)
        chosen = chosen[np.lexsort((chosen, -task.steps[chosen]))]
        clients, weights, steps = task.clients[chosen], task.weights[chosen], task.steps[chosen]
        return cls(task.round, 0, task.lr, chosen, clients, weights, steps, task.participation, group, task.rows)

    def cut(self, most: int) -> list[Lease]:
        """Leases of at most so many clients."""
        if len(self.clients) <= most:
            return [self]
        parts = [slice(start, start + most) for start in range(0, len(self.clients), most)]
        return [
            replace(
                self,
                positions=self.positions[part],
                clients=self.clients[part],
                weights=self.weights[part],
                steps=self.steps[part],
            )
            for part in parts
        ]


@dataclass(frozen=True, slots=True)
class LeaseReport:
    """Small facts about a finished lease.

    Attributes:
        facts: a row for each client (`raysim.tracking.rows.CLIENT_SCHEMA`), in the order of `positions`; `weight` is
            not yet normalised.
        positions: positions of these clients in the cohort.
        clamped: clients whose weight was clamped to the stated range.
        seconds: time copying the model into the rows (`broadcast`), training (`train`), and what that goes into
            (`raysim.tracking.rows.PARTS`).
        bytes_up: bytes of the partial sum.
        keepers: clients with a new state.
    """

    facts: pa.RecordBatch
    positions: Int32
    clamped: int
    seconds: Mapping[str, float]
    bytes_up: int
    keepers: Int64 = field(default_factory=lambda: NOBODY)


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What was measured over a range: for a `ServerRange` one row of sums, exact integers in units of 2^-40, and
    `scores` where a metric looks at their order; for a `ClientRange`, for each set of the clients' own, a row of the
    metrics' values for each client that has it, and another as it was `untuned` where models are fine-tuned; for a
    `TrainRange` each client's mean and mean squared loss."""

    part: Literal["validation", "test", "holdout", "client test", "train"]
    sums: ExactSums | Float64
    clients: Int64 | None = None
    untuned: Float64 | None = None
    scores: Scores | None = None


@dataclass(frozen=True, slots=True)
class ServerHandle:
    """The server after some round; with Ray, references that the driver never looks into.

    Attributes:
        state: of the algorithm.
        model: `[P]`.
        shared: the vectors of the state that clients may read, one after the other in float32; None where there are
            none.
        version: the round whose client states go with it.
    """

    state: Any
    model: Any
    shared: Any = None
    version: int = 0


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
class Chosen:
    """Weights that the server chose for a round.

    Attributes:
        weights: of the clients that made it, in the order of their positions, `[k]`, summing to 1.
        metrics: what is recorded of the choice.
    """

    weights: Float64
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class StepFacts:
    """What is known of a server's step: seconds of checking and of applying, and what was chosen, if anything was."""

    check: float
    apply: float
    chosen: Chosen | None = None


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
