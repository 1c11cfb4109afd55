"""What a block of clients starts its round from, and what there is of some of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from torch import Tensor

from raysim.arrays import Int32, Int64
from raysim.config.client import OptimizerConfig, SgdConfig

PLAIN = SgdConfig()
"""SGD without momentum or weight decay."""


@dataclass(frozen=True, slots=True)
class RoundSetting:
    """What all clients of a round have in common.

    Attributes:
        seed: the experiment's seed.
        round: number of the round, from 1.
        lr: client learning rate of this round; of its first batch, where it changes from batch to batch (`rates`).
        optimizer: the local optimiser as configured.
        participation: the cohort's share of the whole population's weight.
        rates: client learning rate of each batch of a pass, where the schedule is by steps.
    """

    seed: int
    round: int
    lr: float
    optimizer: OptimizerConfig = PLAIN
    participation: float = 1.0
    rates: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class BlockInputs:
    """What a block of K clients is given beside the model and its samples.

    Attributes:
        steps: local steps of each, int64 `[K]`, where they are not those of the work.
        server: vectors of the server's state that clients may read, by name.
        state: what each client keeps from round to round, by name, `[K, size]`; changed in place.
        context: what the training loss is told about each, `[K, …]`, where it is a `ClientLoss`.
        losses: of models `[P]`, their mean losses on the training samples of each client, float64 `[K, models]`.
        turn: keys the random choices of each, int64 `[K]`, where it is not the round (`raysim.rounds.task.RoundTask`).
        part: of the clients that each belongs to, `[K]`, where the round has several (`raysim.rounds.task.RoundTask`).
    """

    steps: Int64 | None = None
    server: Mapping[str, Tensor] = field(default_factory=dict)
    state: Mapping[str, Tensor] = field(default_factory=dict)
    context: Tensor | None = None
    losses: Callable[[Sequence[Tensor]], Tensor] | None = None
    turn: Int64 | None = None
    part: Int32 | None = None

    def turns(self, setting: RoundSetting, k: int) -> Int64:
        """The turn of each of k clients, int64 `[k]`."""
        return np.full(k, setting.round) if self.turn is None else self.turn

    def only(self, one: int) -> BlockInputs:
        """The inputs of one of the clients; its losses are for the caller to set."""
        return replace(
            self,
            steps=None if self.steps is None else self.steps[one : one + 1],
            context=None if self.context is None else self.context[one : one + 1],
            state={name: values[one : one + 1] for name, values in self.state.items()},
            losses=None,
            turn=None if self.turn is None else self.turn[one : one + 1],
            part=None if self.part is None else self.part[one : one + 1],
        )


@dataclass(kw_only=True)
class Some:
    """The first k clients of a block.

    Attributes:
        setting: seed, round, client learning rate and optimiser.
        broadcast: `[P]`, the model that every client began with; only read.
        trainable: T; columns `[T, P)` are float buffers.
        epochs: passes over the shard that the round's work has.
        server: the vectors of the server's state that the algorithm broadcasts, float32, by name; only read.
        clients: ids, int64 `[k]`.
        samples: training samples of each, int64 `[k]`.
        steps: local steps of each in this round, int64 `[k]`, falling.
        rows: `[k, P]`, the models that train; at first each is the broadcast model.
        weights: `[k, T]`, the trainable columns of the rows: a view.
        state: what each client keeps from round to round, float32 `[k, size]` by name, changed in place.
        number: of the batch in its pass, from 0.
        own: matrices `[k, P]` that the program made (`Clients.new_rows`), by name.
    """

    setting: RoundSetting
    broadcast: Tensor
    trainable: int
    epochs: int
    server: Mapping[str, Tensor]
    k: int
    clients: Int64
    samples: Int64
    steps: Int64
    rows: Tensor
    weights: Tensor
    state: Mapping[str, Tensor]
    own: Mapping[str, Tensor]
    number: int = 0


Rates = float | Sequence[float]
"""One learning rate, or that of each step."""

Correction = Callable[[Tensor, Tensor, Some], None]
"""Changes gradients `[k, T]` in place, given the weights `[k, T]` and their clients."""
