"""How an experiment's records become one: a rule, and the stages around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

from raysim.aggregation.chain_checks import check_chain
from raysim.aggregation.contexts import Bound, IntegerContext, MeanContext, SendContext, Setting
from raysim.aggregation.fixed_point import FixedPoint
from raysim.aggregation.protocol import Peers
from raysim.aggregation.records import Field, nothing
from raysim.aggregation.rules import Rule, field_bytes
from raysim.aggregation.stages import Trait, UpdateStage
from raysim.aggregation.vectors import ClientVector
from raysim.arrays import Array, Float32, Float64, Int64
from raysim.errors import ConfigError
from raysim.user_code import user_code


@dataclass(frozen=True, slots=True)
class WireBytes:
    """Bytes of clients' messages.

    Attributes:
        up: of each client's record, `[k]`.
        down: of the model that each is sent, `[k]`, where a stage says; None: all of it.
    """

    up: Int64
    down: Int64 | None = None


@dataclass(frozen=True, slots=True)
class Aggregation:
    """A rule and its stages, outermost first. Worker, server, memory plan and recorder hold one of these.

    Attributes:
        rule: whose fields are those that leave the innermost stage.
        sent: the fields that come to each stage, the algorithm's own to the outermost.
        values: without padding, of the rule's fields.
    """

    rule: Rule
    stages: tuple[UpdateStage, ...] = ()
    sent: tuple[tuple[Field, ...], ...] = ()
    values: tuple[int, ...] = ()

    def check(self, traits: frozenset[Trait]) -> None:
        """Refuse a chain in which a stage lacks what it needs.

        Args:
            traits: that hold for what an algorithm sends.

        Raises:
            ConfigError: names the stage, what it needs and the remedy.
        """
        check_chain(self.rule.road, self.stages, traits)

    def check_run(self, setting: Setting) -> None:
        """Refuse an experiment that one of the stages is not made for.

        Args:
            setting: without fields and what is spent.

        Raises:
            ConfigError: names the stage and the reason.
        """
        spent = sum(stage.spent(setting.expected_weight) for stage in self.stages)
        first = {
            _own(stage, name): vector
            for stage in self.stages
            if stage.broadcast
            for name, vector in stage.init(np.zeros(stage.columns.size, np.float32)).items()
        }
        for i, (stage, bound) in enumerate(zip(self.stages, self._bounds(first), strict=True)):
            try:
                stage.check(replace(setting, fields=self.sent[0], spent=spent, bound=bound))
            except ConfigError as error:
                raise ConfigError(f"aggregation.stages[{i}]: {stage.label}: {error}") from None

    def in_lease(self, lease: SendContext, peers: Peers | None) -> Aggregation:
        """The aggregation as a worker takes it up for a lease; `peers` are those of a rule with a protocol."""
        rule = self.rule.in_round(lease.round)
        if peers is not None:

            def integers(totals: Mapping[str, Array], clients: Int64, fields: Sequence[Field], cohort: int) -> None:
                whole = IntegerContext(lease.seed, lease.round, fields, clients, cohort, lease.server, lease.total)
                for stage, bound in zip(self.stages, self._bounds(lease.server), strict=True):
                    context = replace(whole, server=_vectors_of(stage, lease.server), bound=bound)
                    with user_code(f"stage {stage.label}: integers"):
                        stage.integers(totals, context)

            rule = rule.among(peers, lease.seed, lease.round, integers)
        return self if rule is self.rule else replace(self, rule=rule)

    @property
    def columnwise(self) -> bool:
        """Whether all server halves treat columns apart."""
        return all(stage.columnwise for stage in self.stages)

    @property
    def every_round(self) -> bool:
        """Whether the server takes a step in rounds to which no client contributes."""
        return any(stage.every_round for stage in self.stages)

    @property
    def fixed(self) -> bool:
        """Whether a stage uses the sum of the weights that arrived: a field of its own."""
        return any(stage.fixed for stage in self.stages)

    @property
    def inexact(self) -> dict[str, str]:
        """Why a run cannot be repeated to the bit, by the label of the stage."""
        return {stage.label: stage.inexact for stage in self.stages if stage.inexact is not None}

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of what is recorded."""
        own = (f"stages/{stage.label}/{name}" for stage in self.stages for name in stage.metrics)
        return (*self.rule.metrics, *own)

    def dense(self, round_number: int, clients: Int64) -> Int64:
        """Bytes of each of these clients' records `[k]` where no stage encodes them."""
        return self.rule.message_bytes(self.values, round_number, clients)

    def received(self, round_number: int, clients: Int64) -> Int64 | None:
        """Bytes that fields say each of these clients is sent `[k]`; None where none does."""
        found = [field.received(round_number, clients) for field in self.rule.fields if field.received is not None]
        return 4 * np.sum(found, axis=0) if found else None

    def most_bytes(self, round_number: int, clients: Int64) -> tuple[Int64, bool]:
        """The most bytes of each of these clients' records `[k]`, before anything is trained, and whether all who take
        a step send that many. A client without steps never sends more."""
        for stage in reversed(self.stages):
            if not self.rule.encodes and (most := stage.most_bytes(round_number, clients)) is not None:
                later = self._uncoded(stage.fields(stage.sent), round_number, clients)
                return most + later, stage.bytes_known
        return self.dense(round_number, clients), True

    @property
    def sends_model(self) -> bool:
        """Whether a stage encodes the model that clients are sent."""
        return any(type(stage).model is not UpdateStage.model for stage in self.stages)

    def model(
        self, before: Float32, model: Float32, state: Mapping[str, Float64], context: MeanContext
    ) -> tuple[Float32, dict[str, Float64]]:
        """The model that clients are sent, and the server's state after it.

        Args:
            before: the model that they were sent last.
            model: of the algorithm; may be changed in place.
        """
        after = dict(state)
        for stage in self.stages:
            model, own = stage.model(before, model, _vectors_of(stage, state), context)
            after |= {_own(stage, name): vector for name, vector in own.items()}
        return model, after

    def client_state(self) -> tuple[ClientVector, ...]:
        """What each client keeps for the stages."""
        return tuple(
            replace(vector, name=_own(stage, vector.name)) for stage in self.stages for vector in stage.client_state()
        )

    def init(self, model: Float32) -> dict[str, Float64]:
        """The stages' vectors on the server before the first round."""
        return {_own(stage, name): vector for stage in self.stages for name, vector in stage.init(model).items()}

    def broadcast(self, state: Mapping[str, Float64]) -> dict[str, Float64]:
        """The stages' vectors on the server that clients may read."""
        names = [_own(stage, name) for stage in self.stages for name in stage.broadcast]
        return {name: state[name] for name in names}

    def client(self, sent: Mapping[str, Tensor], block: SendContext) -> tuple[Mapping[str, Tensor], WireBytes]:
        """The records of a block as they are folded, and the bytes of its clients' messages.

        Args:
            sent: of the algorithm; may be changed in place.
            block: with all that the clients keep, and all that is broadcast, by name; the stages' own state is changed
                in place.
        """
        if not self.stages:
            return sent, WireBytes(self.dense(block.round, block.clients), self.received(block.round, block.clients))
        encoded: Int64 | None = None
        down: Int64 | None = None
        sent = _apart(sent)
        for stage, fields, bound in zip(self.stages, self.sent, self._bounds(block.server), strict=True):
            own = {vector.name: block.state[_own(stage, vector.name)] for vector in stage.client_state()}
            context = replace(block, fields=fields, state=own, server=_vectors_of(stage, block.server), bound=bound)
            with user_code(f"stage {stage.label}: client"):
                received = stage.download(context)
                sent, wire = stage.encoded(sent, context)
            _check_sent(stage, sent)
            down = down if received is None else received
            if wire is not None:
                encoded = wire + self._uncoded(stage.fields(fields), block.round, block.clients)
        if self.fixed:
            like = next(iter(sent.values()))
            sent = {**sent, ARRIVED.name: like.new_full((len(block.clients), 1), block.total)}
        for field in self.rule.fields:
            if field.name not in sent:
                raise ValueError(
                    f"stage {self.stages[-1].label}: client returned no {field.name!r}, a field of {field.size} values"
                )
        if encoded is None or self.rule.encodes:
            encoded = self.dense(block.round, block.clients)
        return sent, WireBytes(encoded, self.received(block.round, block.clients) if down is None else down)

    def _uncoded(self, coded: Sequence[Field], round_number: int, clients: Int64) -> Int64:
        """Bytes `[k]` of each client's fields that are not among these: inside of what encodes, stages add them."""
        names = {field.name for field in coded}
        rest = [pair for pair in zip(self.rule.fields, self.values, strict=True) if pair[0].name not in names]
        return field_bytes([field for field, _ in rest], [size for _, size in rest], round_number, clients)

    @staticmethod
    def without_own(state: Mapping[str, Float64]) -> dict[str, Float64]:
        """The server's state without the stages' vectors."""
        return {name: vector for name, vector in state.items() if not name.startswith(_PREFIX)}

    def server(
        self, mean: Mapping[str, Float64], state: Mapping[str, Float64], context: MeanContext
    ) -> tuple[Mapping[str, Float64], dict[str, Float64], dict[str, float]]:
        """The mean as the algorithm takes it, the stages' next state, and their metrics.

        Args:
            mean: of the rule, in the columns of the context.
            state: the server's, of which the stages' own is read.
        """
        after: dict[str, Float64] = {}
        metrics: dict[str, float] = {}
        if self.fixed:
            arrived = float(mean[ARRIVED.name][0]) / context.expected_weight
            spent = sum(stage.spent(context.expected_weight) for stage in self.stages)
            mean = {name: values for name, values in mean.items() if name != ARRIVED.name}
            context = replace(context, arrived=arrived, spent=spent)
        parts = zip(self.stages, self.sent, self._bounds(state), strict=True)
        for stage, fields, bound in reversed(list(parts)):
            given = _vectors_of(stage, state)
            mean, next_state, found = stage.server(mean, given, replace(context, fields=fields, bound=bound))
            after |= {_own(stage, name): vector for name, vector in next_state.items()}
            metrics |= {f"stages/{stage.label}/{name}": value for name, value in found.items()}
        return mean, after, metrics

    def _bounds(self, server: Mapping[str, Any]) -> list[Bound | None]:
        """The bound of the records that come to each stage, given the server's vectors, or those that are broadcast."""
        found: list[Bound | None] = [None]
        for stage in self.stages:
            bound = stage.bound(found[-1], _vectors_of(stage, server))
            found.append(None if "bounded" in stage.breaks else bound)
        return found[:-1]


ARRIVED = Field("stages.arrived", 1, FixedPoint(32), summed=True, constant=True, sent=nothing)
"""Σ of the weights of the clients in the mean, before they were normalised; of a chain with a stage that uses it."""

V = TypeVar("V")

_PREFIX = "stages."


def _vectors_of(stage: UpdateStage, server: Mapping[str, V]) -> dict[str, V]:
    """A stage's own vectors on the server, by the names that it gave them."""
    own = _own(stage, "")
    return {name.removeprefix(own): vector for name, vector in server.items() if name.startswith(own)}


def _own(stage: UpdateStage, name: str) -> str:
    """The name of a stage's vector among those of the algorithm and of other stages."""
    return f"{_PREFIX}{stage.label}.{name}"


def _check_sent(stage: UpdateStage, sent: Mapping[str, Tensor]) -> None:
    if not isinstance(sent, Mapping) or not all(isinstance(one, Tensor) for one in sent.values()):
        raise TypeError(
            f"stage {stage.label}: client returned a {type(sent).__name__}; expected a tensor for each field by name"
        )


def _apart(sent: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The fields, none of which shares memory with another: stages change them in place."""
    found: dict[str, Tensor] = {}
    for name, rows in sent.items():
        shared = any(rows.data_ptr() == other.data_ptr() for other in found.values())
        found[name] = rows.clone() if shared else rows
    return found
