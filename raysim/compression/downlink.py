"""The model's change as a message: clients train from what they have been sent, and the server feeds the error back.

Tang, Yu, Lian, Zhang & Liu, "DoubleSqueeze: Parallel stochastic gradient descent with double-pass error-compensated
compression", ICML 2019, algorithm 1 (the server's half).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np

from raysim import keyed
from raysim.aggregation import ClientVector, Field, MeanContext, SendContext, UpdateStage
from raysim.aggregation.stages import ModelColumns
from raysim.arrays import Float32, Float64, Int64
from raysim.compression.codecs import build_codec
from raysim.compression.layers import LayerChoice, Layers
from raysim.compression.messages import message_bytes
from raysim.config.compression import DownlinkCodecConfig
from raysim.errors import ConfigError

_DIGIT = 2**20
"""Bytes are counted in two float32 numbers, in units of this and of one."""


class Downlink(UpdateStage):
    """w' = w + C(Δ + e), e ← Δ + e - C(Δ + e): Δ is the algorithm's change of the model w that clients have.

    A client is sent the messages of all the rounds that it missed, or the whole model where that is shorter, as it is
    the first time. Vectors of the server's state that clients may read are sent whole.
    """

    roads = frozenset({"sum", "rows", "modular"})
    observes = True
    broadcast = ("sent",)

    def __init__(
        self,
        columns: ModelColumns,
        codec: DownlinkCodecConfig,
        include: Sequence[str],
        exclude: Sequence[str],
        dense_below: int,
    ) -> None:
        super().__init__(columns)
        layers = Layers(columns, Field("model", columns.size), LayerChoice(include, exclude, dense_below))
        if not layers.n:
            raise ConfigError("no layer is left to compress; lower dense_below, or change include and exclude")
        self._layers, self._codec = layers, build_codec(codec, layers.shapes)

    @cached_property
    def _whole(self) -> int:
        """Bytes of the model."""
        return 4 * self.columns.values(self.columns.size)

    def client_state(self) -> Sequence[ClientVector]:
        return (ClientVector("had", 3),)

    def init(self, model: Float32) -> Mapping[str, Float64]:
        return {"error": np.zeros(self._layers.n), "memory": np.zeros(self._codec.memory), "sent": np.zeros(2)}

    def download(self, ctx: SendContext) -> Int64:
        sent, found = ctx.server["sent"].cpu().numpy().astype(np.int64), np.empty(len(ctx.clients), dtype=np.int64)
        for i, had in enumerate(ctx.state["had"]):
            before = had.cpu().numpy().astype(np.int64)
            missed = int((sent - before[:2]) @ [_DIGIT, 1])
            found[i] = min(self._whole, missed) if before[2] else self._whole
            had[:2] = ctx.server["sent"]
            had[2] = 1
        return found

    def model(
        self, before: Float32, model: Float32, state: Mapping[str, Float64], ctx: MeanContext
    ) -> tuple[Float32, Mapping[str, Float64]]:
        layers, memory = self._layers, state["memory"].astype(np.float32)
        known = layers.take(before)
        whole = layers.take(model).astype(np.float64) - known + state["error"]
        change = whole.astype(np.float32)
        if not np.isfinite(change).all():
            return model, state
        code = self._codec.compress(change, lambda: keyed.generator(ctx.seed, _DOWN, ctx.round), memory)
        had = self._codec.restore(code)
        layers.put(model, known + had)
        digits = state["sent"] + [0, message_bytes(self._codec.length(code), layers.dense)]
        carried = np.array([digits[0] + digits[1] // _DIGIT, digits[1] % _DIGIT])
        error = whole - (layers.take(model).astype(np.float64) - known)
        return model, {**state, "error": error, "memory": memory.astype(np.float64), "sent": carried}


_DOWN = keyed.Purpose.DOWNLINK
