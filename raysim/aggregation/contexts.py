"""What the halves of a stage are told: of a block of clients, of a step of the server, of the experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from raysim.aggregation.records import Field
from raysim.arrays import Int64
from raysim.config import Experiment


@dataclass(frozen=True, slots=True)
class Bound:
    """The largest norm of a record, over all fields that depend on data together.

    Attributes:
        norm: that no record exceeds.
        order: of the norm: 2 (Euclidean) or 1 (sum of magnitudes).
    """

    norm: float
    order: int = 2


@dataclass(frozen=True, slots=True)
class SendContext:
    """A block of clients whose records go through a client half.

    Attributes:
        clients, steps: ids and local steps, `[k]`. A client without steps sends a record of zeros, and what it keeps
            is not written back.
        state: this stage's client vectors, each `[k, size]`; may be changed in place.
        server: this stage's vectors of the server that it broadcasts.
        fields: those that come to this stage.
        bound: of the records that come to this stage, where they have one.
        total: Σ of the cohort's weights before they are normalised.
        turn: keys the random choices of each, `[k]`, where the round does not: a client may come twice in one.
    """

    seed: int
    round: int
    clients: Int64
    steps: Int64
    state: Mapping[str, Tensor] = field(default_factory=dict)
    server: Mapping[str, Tensor] = field(default_factory=dict)
    fields: Sequence[Field] = ()
    bound: Bound | None = None
    total: float = 1.0
    turn: Int64 | None = None


@dataclass(frozen=True, slots=True)
class MeanContext:
    """The step whose mean goes through a server half.

    Attributes:
        fields: those that came to the client half.
        columns: of the model, those of this call.
        contributed: clients whose records are in the mean; 0 in an empty round, whose mean is zero.
        expected: clients of a cohort, on average.
        expected_weight: Σ of their weights before they are normalised, on average: `expected`, where all are 1.
        arrived: that sum over the clients in the mean, divided by `expected_weight`: times the mean it is the sum over
            a denominator that no client changes. Only of stages with `fixed`.
        bound: of the records that came to the client half, where they have one.
        spent: Σ 1/z² of what stages of the chain release by themselves, z the noise multiplier of each release.
        noise: factor on the standard deviation of noise; below 1 where it is scaled as for a larger, hypothetical
            cohort (`privacy.hypothetical_cohort`).
    """

    seed: int
    round: int
    fields: Sequence[Field]
    columns: slice
    contributed: int
    expected: int
    expected_weight: float = 1.0
    arrived: float = 1.0
    bound: Bound | None = None
    spent: float = 0.0
    noise: float = 1.0


@dataclass(frozen=True, slots=True)
class Setting:
    """The experiment that a chain is part of.

    Attributes:
        population, cohort: clients of the federation, and of a round on average.
        expected_weight: see `MeanContext`.
        fields: of the algorithm.
        spent: see `MeanContext`.
        bound: of the records that come to the stage in the first round, where they have one.
    """

    experiment: Experiment
    population: int
    cohort: int
    expected_weight: float
    fields: Sequence[Field] = ()
    spent: float = 0.0
    bound: Bound | None = None


@dataclass(frozen=True, slots=True)
class IntegerContext:
    """Integer sums over some clients of a round, before they are masked.

    Attributes:
        fields: of the rule, in the formats of this round; a sum is in units of 1 / `format.scale`, an addend is w·x.
        clients: ids of those in the sums, `[k]`.
        cohort: clients of the round.
        server: this stage's vectors on the server that clients may read.
        total: Σ of the cohort's weights before they are normalised.
        bound: of the records that came to this stage, where they have one.
    """

    seed: int
    round: int
    fields: Sequence[Field]
    clients: Int64
    cohort: int
    server: Mapping[str, Tensor]
    total: float = 1.0
    bound: Bound | None = None
