"""The stage that sends what a codec makes of each client's update, with error feedback on the client.

* Seide, Fu, Droppo, Li & Yu, "1-bit stochastic gradient descent", INTERSPEECH 2014, and Karimireddy, Rebjock, Stich &
  Jaggi, ICML 2019, algorithm 2 (EF14: the error is added to the next update).
* Richtárik, Sokolov & Fatkhullin, "EF21: A new, simpler, theoretically better, and practically faster error feedback",
  NeurIPS 2021, algorithm 2 (the difference from an estimate is sent).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from raysim import keyed
from raysim.aggregation import ClientVector, Field, MeanContext, SendContext, UpdateStage
from raysim.aggregation.rules import field_bytes
from raysim.aggregation.stages import ModelColumns
from raysim.arrays import Float32, Float64, Int64
from raysim.compression.codec import Codec
from raysim.compression.codecs import build_codec
from raysim.compression.layers import LayerChoice, Layers
from raysim.compression.messages import HEADER, message_bytes, write_back
from raysim.compression.parts import compressible
from raysim.config.compression import (
    CodecConfig,
    ErrorFeedbackConfig,
    FeedbackConfig,
    MajorityConfig,
    PowerSgdConfig,
    TopKConfig,
)


@dataclass(frozen=True, slots=True)
class _CodedField:
    """A field that is encoded.

    Attributes:
        number: of the field, in its keys.
        memory, kept: where in the client's vectors the codec's memory lies, and what the feedback keeps.
    """

    number: int
    field: Field
    layers: Layers
    codec: Codec[Any]
    memory: slice
    kept: slice


class Compress(UpdateStage):
    """Replaces a client's values by those that the server has of its message.

    A client without steps sends a header, and keeps what it has. One whose values are not finite is left as it is, and
    left out where records are folded.
    """

    codes: ClassVar[bool] = True

    def __init__(
        self,
        columns: ModelColumns,
        codec: CodecConfig,
        feedback: FeedbackConfig | None,
        include: Sequence[str],
        exclude: Sequence[str],
        dense_below: int,
    ) -> None:
        super().__init__(columns)
        self._config, self._feedback = codec, feedback
        self._choice = LayerChoice(include, exclude, dense_below)
        self.breaks = frozenset({"bounded", "bounded_l1"})
        self.columnwise = not isinstance(codec, MajorityConfig)
        self.bytes_known = not isinstance(codec, TopKConfig)
        self.exposes = _exposure(codec, feedback)

    def fields(self, sent: Sequence[Field]) -> Sequence[Field]:
        assert self._parts, "which fields are encoded is found out, or refused, when the chain is built"
        return sent

    @cached_property
    def _parts(self) -> list[_CodedField]:
        found: list[_CodedField] = []
        memory = kept = 0
        for number, (field, layers) in enumerate(compressible(self.columns, self.sent, self._choice)):
            codec = build_codec(self._config, layers.shapes)
            places = slice(memory, memory + codec.memory), slice(kept, kept + codec.n)
            memory, kept = places[0].stop, places[1].stop
            found.append(_CodedField(number, field, layers, codec, *places))
        return found

    def client_state(self) -> Sequence[ClientVector]:
        sizes = {"memory": self._parts[-1].memory.stop}
        if self._feedback is not None:
            sizes["kept"] = self._parts[-1].kept.stop
        if isinstance(self._feedback, ErrorFeedbackConfig) and self._feedback.decay < 1:
            sizes["last"] = 1
        return [ClientVector(name, size) for name, size in sizes.items() if size]

    def client(self, sent: Mapping[str, Tensor], ctx: SendContext) -> Mapping[str, Tensor]:
        return self.encoded(sent, ctx)[0]

    def encoded(self, sent: Mapping[str, Tensor], ctx: SendContext) -> tuple[Mapping[str, Tensor], Int64]:
        changed = {part.field.name: sent[part.field.name] for part in self._parts} | {
            f"{self.label}.{name}": vectors for name, vectors in ctx.state.items()
        }
        arrays = {name: rows.cpu().numpy() for name, rows in changed.items()}
        lengths = self._others(ctx.round, ctx.clients) + HEADER * len(self._parts)
        for i in np.flatnonzero(ctx.steps > 0).tolist():
            own = {name: arrays[f"{self.label}.{name}"][i] for name in ctx.state}
            self._age(own, ctx.round)
            for part in self._parts:
                message = self._message(part, arrays[part.field.name][i], own, ctx, i)
                lengths[i] += message - HEADER
        for name, rows in changed.items():
            write_back(rows, arrays[name])
        return sent, lengths

    def _message(self, part: _CodedField, row: Float32, own: Mapping[str, Float32], ctx: SendContext, i: int) -> int:
        """Replace the values of a field of a client of the block by those that the server has of them; bytes of the
        message."""
        key = ctx.round, int(ctx.clients[i]), part.number, 0 if ctx.turn is None else int(ctx.turn[i])
        codec, x = part.codec, part.layers.take(row)
        kept = own["kept"][part.kept] if "kept" in own else None
        memory = own["memory"][part.memory] if "memory" in own else _NOTHING
        if kept is not None:
            with np.errstate(over="ignore", invalid="ignore"):
                x += kept if isinstance(self._feedback, ErrorFeedbackConfig) else -kept
        if not np.isfinite(x).all():
            return message_bytes(codec.most, part.layers.dense)
        code = codec.compress(x, lambda: keyed.generator(ctx.seed, _CODEC, *key), memory)
        had = codec.restore(code)
        if isinstance(self._feedback, ErrorFeedbackConfig) and kept is not None:
            np.subtract(x, had, out=kept)
        elif kept is not None:
            kept += had
            had = kept
        part.layers.put(row, had)
        return message_bytes(codec.length(code), part.layers.dense)

    def _age(self, own: dict[str, Float32], round_number: int) -> None:
        """Let what a client keeps fade for the rounds without it."""
        if "last" not in own:
            return
        assert isinstance(self._feedback, ErrorFeedbackConfig)
        absent = max(0, round_number - 1 - int(own["last"][0]))
        own["kept"] *= np.float32(self._feedback.decay**absent)
        own["last"][0] = round_number

    def most_bytes(self, round_number: int, clients: Int64) -> Int64:
        coded = sum(message_bytes(part.codec.most, part.layers.dense) for part in self._parts)
        return coded + self._others(round_number, clients)

    def server(
        self, mean: Mapping[str, Float64], state: Mapping[str, Float64], ctx: MeanContext
    ) -> tuple[Mapping[str, Float64], Mapping[str, Float64], Mapping[str, float]]:
        if self.columnwise:
            return mean, state, {}
        found = dict(mean)
        for part in self._parts:
            found[part.field.name] = whole = mean[part.field.name].copy()
            whole[part.layers.columns] = part.codec.finish(whole[part.layers.columns])
        return found, state, {}

    def _others(self, round_number: int, clients: Int64) -> Int64:
        """Bytes of the fields that are sent as they are, `[k]`."""
        coded = {part.field.name for part in self._parts}
        rest = [field for field in self.sent if field.name not in coded]
        return field_bytes(rest, [self.columns.values(field.size) for field in rest], round_number, clients)


def _exposure(codec: CodecConfig, feedback: FeedbackConfig | None) -> str | None:
    """Why noise does not protect what is sent."""
    if feedback is not None or isinstance(codec, PowerSgdConfig):
        return "what a client keeps of its messages acts in later rounds, which noise on one round does not cover"
    if isinstance(codec, TopKConfig):
        return "which columns a client sends depends on its data, which noise on their values does not cover"
    return "what is rounded may be longer than the bound that noise goes by"


_CODEC = keyed.Purpose.CODEC
_NOTHING = np.empty(0, dtype=np.float32)
