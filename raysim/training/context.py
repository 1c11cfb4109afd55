"""What a client's round starts from, and what an algorithm may look at while it goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor

from raysim.arrays import Int64
from raysim.config.client import OptimizerConfig, SgdConfig

PLAIN = SgdConfig()
"""SGD without momentum or weight decay."""


@dataclass(frozen=True, slots=True)
class RoundSetting:
    """What all clients of a round have in common.

    Attributes:
        seed: the experiment's seed.
        round: number of the round, from 1.
        lr: client learning rate of this round.
        optimizer: the local optimiser as configured.
        participation: the cohort's share of the whole population's weight.
    """

    seed: int
    round: int
    lr: float
    optimizer: OptimizerConfig = PLAIN
    participation: float = 1.0


@dataclass(frozen=True, slots=True)
class Given:
    """What a block of K clients is given beside the model and its samples.

    Attributes:
        steps: local steps of each, int64 `[K]`, where they are not those of the work.
        loss: the broadcast model's mean loss on the training samples of each, float64 `[K]`, where it was asked for.
        server: vectors of the server's state that clients may read, by name.
        state: what each client keeps from round to round, by name, `[K, size]`; changed in place.
        losses: mean losses of other models on the training samples of each, float64 `[K, m]`, where asked for.
        context: what the training loss is told about each, `[K, …]`, where it is a `ClientLoss`.
    """

    steps: Int64 | None = None
    loss: Tensor | None = None
    server: Mapping[str, Tensor] = field(default_factory=dict)
    state: Mapping[str, Tensor] = field(default_factory=dict)
    losses: Tensor | None = None
    context: Tensor | None = None

    def only(self, one: int) -> Given:
        """What is given to one of the clients."""
        return replace(
            self,
            steps=None if self.steps is None else self.steps[one : one + 1],
            loss=None if self.loss is None else self.loss[one : one + 1],
            losses=None if self.losses is None else self.losses[one : one + 1],
            context=None if self.context is None else self.context[one : one + 1],
            state={name: values[one : one + 1] for name, values in self.state.items()},
        )


@dataclass(frozen=True, slots=True)
class ClientContext:
    """What an algorithm may look at, for the k clients whose rows it is given.

    Attributes:
        setting: seed, round and client learning rate.
        broadcast: `[P]`, the model that every client began with.
        trainable: T; columns `[T, P)` are float buffers.
        clients: ids, int64 `[k]`.
        samples: training samples of each, int64 `[k]`.
        steps: local steps of each in this round, int64 `[k]`.
        grad: `[k, T]`, the gradients of the last step, corrected; a local optimiser may have used them up since.
        loss: the broadcast model's mean loss on the training samples of each, float64 `[k]`; None unless the algorithm
            says `needs_loss`.
        anchor: `[k, T]`, gradients of the clients' whole shards at the broadcast model, every sample counted once; None
            unless the algorithm says `needs_anchor`.
        reference: `[k, T]`, gradients at the broadcast model on the samples of the step that is corrected; None unless
            the algorithm says `needs_reference`.
        losses: mean losses of the models that the algorithm names as `candidates`, float64 `[k, m]`; None without any.
        epochs: passes over the shard that the round's work has.
        turn: which of the algorithm's turns this is, from 0.
        step: local steps of this turn that were taken before this one.
        scratch: matrices `[k, P]` of the algorithm's own, by name; each began as the broadcast model.
        server: the vectors of the server's state that the algorithm broadcasts, float32, by name.
        state: what each client keeps from round to round, float32 `[k, size]` by name; what is in them when the round
            ends is what the client finds the next time.
    """

    setting: RoundSetting
    broadcast: Tensor
    trainable: int
    clients: Int64
    samples: Int64
    steps: Int64
    grad: Tensor
    loss: Tensor | None = None
    server: Mapping[str, Tensor] = field(default_factory=dict)
    state: Mapping[str, Tensor] = field(default_factory=dict)
    anchor: Tensor | None = None
    reference: Tensor | None = None
    losses: Tensor | None = None
    epochs: int = 1
    turn: int = 0
    step: int = 0
    scratch: Mapping[str, Tensor] = field(default_factory=dict)

    def first(self, k: int) -> ClientContext:
        """What concerns the first k clients."""
        return replace(
            self,
            clients=self.clients[:k],
            samples=self.samples[:k],
            steps=self.steps[:k],
            grad=self.grad[:k],
            loss=None if self.loss is None else self.loss[:k],
            losses=None if self.losses is None else self.losses[:k],
            state={name: values[:k] for name, values in self.state.items()},
            anchor=None if self.anchor is None else self.anchor[:k],
            reference=None if self.reference is None else self.reference[:k],
            scratch={name: values[:k] for name, values in self.scratch.items()},
        )
