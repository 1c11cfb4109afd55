"""Stages: layers around a rule, with a client half before records are folded and a server half on the mean.

A chain is written outermost first and nests as TensorFlow Federated's aggregators do: with `[zero, clip]` a client's
record goes through `zero`, then `clip`, and is folded; the mean goes through `clip`, then `zero`, to the algorithm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol

from torch import Tensor

from raysim.aggregation.contexts import Bound, IntegerContext, MeanContext, SendContext, Setting
from raysim.aggregation.mechanism import Mechanism
from raysim.aggregation.records import Field
from raysim.aggregation.rules import Road
from raysim.aggregation.vectors import ClientVector
from raysim.arrays import Float32, Float64, Int64

Trait = Literal["bounded", "bounded_l1", "steady", "memoryless", "uniform_weights", "bounded_weights"]
"""What a stage may rely on: records of bounded L2 norm, of bounded sum of magnitudes, a bound that is the same in all
rounds, records without what stages keep of other rounds, clients of equal weight, clients whose weights before they are
normalised are at most 1 and depend on no other client."""


class ModelSegment(Protocol):
    """A parameter or buffer: columns `[start, start + size)`."""

    @property
    def name(self) -> str: ...
    @property
    def start(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def shape(self) -> tuple[int, ...]: ...


class ModelColumns(Protocol):
    """The columns of a model: `size` of them (P), of which the first `trainable` (T) are trained."""

    size: int
    trainable: int

    @property
    def segments(self) -> Sequence[ModelSegment]:
        """Its parameters and buffers, in the order of their columns; what is between them is padding."""

    def values(self, size: int) -> int:
        """Values of a vector of P or T columns without padding; `size` of any other."""


class UpdateStage:
    """One layer around the rule. As it stands, it changes nothing.

    Contract: both halves are pure functions of their arguments, nothing is kept on `self`, and random choices are keyed
    (`raysim.keyed`). The client half treats rows apart: a client's record and state depend on no other row of the
    block. The server half is called range by range of columns: vectors of P or T values come cut to `ctx.columns`,
    everything else comes whole each time and must give the same answer in every call. A stage that needs whole vectors
    (a norm) says `columnwise = False`.

    Example:
        >>> class Halve(UpdateStage):
        ...     def client(self, sent, ctx):
        ...         return {name: rows.mul_(0.5) for name, rows in sent.items()}

    Attributes:
        label: its name in the chain, unique there; names of fields that it adds begin with it.
        columns: of the model.
        sent: the fields that come to its client half; given to it when the chain is built.
        gives: what holds for records that went through its client half.
        mechanism: what it releases in a round, with the noise that it adds where `MeanContext.noise` is 1; None where
            it adds none.
    """

    roads: ClassVar[frozenset[Road]] = frozenset({"sum", "rows"})
    """Roads of a rule on which it works."""
    needs: ClassVar[frozenset[Trait]] = frozenset()
    """What must hold for records that come to its client half, and still hold where they are folded."""
    breaks: frozenset[Trait] = frozenset()
    """What does not hold any more after its client half."""
    columnwise: bool = True
    """Whether the server half treats columns apart."""
    observes: ClassVar[bool] = False
    """Whether its client half only looks at what is sent."""
    codes: ClassVar[bool] = False
    """Whether what leaves its client half is sent in fewer bits than float32 has, so that nothing may change it."""
    every_round: ClassVar[bool] = False
    """Whether the server takes a step, with a mean of zero, where the cohort is empty or all of it was dropped."""
    fixed: ClassVar[bool] = False
    """Whether its server half uses `MeanContext.arrived`."""
    broadcast: ClassVar[tuple[str, ...]] = ()
    """Its vectors on the server that travel to the clients in float32: `SendContext.server`."""
    metrics: ClassVar[tuple[str, ...]] = ()
    """Names of what its server half records; columns `stages/LABEL/NAME` of rounds.parquet."""
    inexact: str | None = None
    """Why a run with it cannot be repeated to the bit, where it cannot."""
    exposes: str | None = None
    """Why noise does not protect what went through its client half, where it does not."""
    bytes_known: bool = True
    """Whether `most_bytes` are the bytes of all its messages."""

    gives: frozenset[Trait] = frozenset()
    mechanism: Mechanism | None = None
    label: str = ""
    sent: tuple[Field, ...] = ()

    def __init__(self, columns: ModelColumns) -> None:
        self.columns = columns

    def check(self, setting: Setting) -> None:
        """Refuse an experiment that the stage is not made for.

        Raises:
            ConfigError: one line with the reason and the remedy.
        """
        return

    def bound(self, outer: Bound | None, server: Mapping[str, Any]) -> Bound | None:
        """The bound of records that leave the client half, of a stage that gives "bounded".

        Args:
            outer: that of the records that come to it.
            server: its vectors on the server, on clients those that are broadcast.
        """
        return outer

    def spent(self, expected_weight: float) -> float:
        """1/z² of what it releases beside the fields that depend on data, z the noise multiplier of that release.

        Args:
            expected_weight: Σ of the weights of a cohort, on average.
        """
        return 0.0

    def fields(self, sent: Sequence[Field]) -> Sequence[Field]:
        """The fields that leave the client half, given those that come to it."""
        return sent

    def client_state(self) -> Sequence[ClientVector]:
        """What each client keeps for it from round to round."""
        return ()

    def init(self, model: Float32) -> Mapping[str, Float64]:
        """Its vectors on the server before the first round, for a model `[P]`; checkpoints have them."""
        return {}

    def client(self, sent: Mapping[str, Tensor], ctx: SendContext) -> Mapping[str, Tensor]:
        """The client half: for each of its fields float32 `[k, size]`; what comes in may be changed in place."""
        return sent

    def wire(self, sent: Mapping[str, Tensor], ctx: SendContext) -> Int64 | None:
        """Bytes of each client's encoded message `[k]`, given what left its client half; None: it encodes nothing."""
        return None

    def encoded(self, sent: Mapping[str, Tensor], ctx: SendContext) -> tuple[Mapping[str, Tensor], Int64 | None]:
        """Both of them: for a stage whose bytes do not follow from what leaves its client half."""
        sent = self.client(sent, ctx)
        return sent, self.wire(sent, ctx)

    def most_bytes(self, round_number: int, clients: Int64) -> Int64 | None:
        """The most bytes of each client's message `[k]`, before anything is trained; None: it encodes nothing."""
        return None

    def download(self, ctx: SendContext) -> Int64 | None:
        """Bytes of the model that each client is sent before it trains `[k]`; None: the whole model."""
        return None

    def model(
        self, before: Float32, model: Float32, state: Mapping[str, Float64], ctx: MeanContext
    ) -> tuple[Float32, Mapping[str, Float64]]:
        """The model `[P]` that clients are sent in place of the algorithm's, and the stage's next state.

        Args:
            before: the model that clients were sent last, which is only read.
            model: what the algorithm made of it; may be changed in place.
            state: after the server half.
        """
        return model, state

    def integers(self, totals: Mapping[str, Int64], ctx: IntegerContext) -> None:
        """On the modular road: change the rounded sums of a worker's clients in place, each `[size]`, before they are
        masked. What it adds is the sum of something keyed by each client, so that it does not depend on leases."""
        return

    def server(
        self, mean: Mapping[str, Float64], state: Mapping[str, Float64], ctx: MeanContext
    ) -> tuple[Mapping[str, Float64], Mapping[str, Float64], Mapping[str, float]]:
        """The server half: the mean of the fields that came to the client half, its next state, and its metrics."""
        return mean, state, {}
