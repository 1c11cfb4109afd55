"""A random rotation that makes values alike in size, so that few bits do for each of them.

Suresh, Yu, Kumar & McMahan, "Distributed mean estimation with limited communication", ICML 2017, section 4 (HD: random
signs, then a Hadamard transform). Here in blocks: the value in column c of n is in block c mod (n / block), so that
each block has values of all layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from raysim import keyed
from raysim.aggregation import Bound, Field, MeanContext, SendContext
from raysim.aggregation.stages import ModelColumns
from raysim.arrays import Float32, Float64
from raysim.compression.layers import Layers
from raysim.compression.parts import sized
from raysim.compression.replacing import Replacement, ReplacingStage

MARGIN = 1 + 2.0**-16
"""Rounding to float32 in at most 16 steps of the transform adds less to a norm."""

A = TypeVar("A", Float32, Float64)


class Rotate(ReplacingStage[Replacement]):
    """Replaces a field by the rotated values of the layers that are chosen, and those of the others behind them.

    Signs are drawn anew in each round, the same of all clients. The server rotates the mean back.
    """

    breaks = frozenset({"bounded_l1"})

    def __init__(
        self, columns: ModelColumns, block: int, include: Sequence[str], exclude: Sequence[str], dense_below: int
    ) -> None:
        super().__init__(columns, include, exclude, dense_below)
        self._block = block

    def replacement(self, number: int, field: Field, layers: Layers) -> Replacement:
        size = -(-layers.n // self._block) * self._block
        return Replacement(number, layers, size + self._block * sized(size + layers.dense, self.columns))

    def bound(self, outer: Bound | None, server: Mapping[str, Any]) -> Bound | None:
        return None if outer is None else Bound(MARGIN * outer.norm)

    def client(self, sent: Mapping[str, Tensor], ctx: SendContext) -> Mapping[str, Tensor]:
        found = dict(sent)
        for name, one in self.replaced.items():
            layers, size = one.layers, one.size
            signs = _signs(ctx.seed, ctx.round, one.number, size, self._block)
            rows = sent[name].cpu().numpy()
            rotated = np.zeros((len(rows), size + layers.dense), dtype=np.float32)
            with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is left out when it is folded
                for row, out in zip(rows, rotated, strict=True):
                    out[: layers.n] = layers.take(row)
                    out[:size] *= signs
                    transform(out[:size].reshape(self._block, -1))
                    out[size:] = row[layers.rest]
            found[name] = torch.from_numpy(rotated).to(sent[name].device)
        return found

    def server(
        self, mean: Mapping[str, Float64], state: Mapping[str, Float64], ctx: MeanContext
    ) -> tuple[Mapping[str, Float64], Mapping[str, Float64], Mapping[str, float]]:
        found = dict(mean)
        sizes = {field.name: field.size for field in ctx.fields}
        for name, one in self.replaced.items():
            layers, size = one.layers, one.size
            signs = _signs(ctx.seed, ctx.round, one.number, size, self._block)
            values = mean[name][:size].copy()
            transform(values.reshape(self._block, -1))
            values *= signs
            found[name] = np.zeros(sizes[name])
            layers.put(found[name], values)
            found[name][layers.rest] = mean[name][size:]
        return found, state, {}


def transform(values: A) -> None:
    """The Hadamard transform of each column of `[block, columns]`, in place, without its factor 1 / √block: that is in
    the signs, once on each way."""
    block, columns = values.shape
    width = max(1, _PIECE // block)
    for left in range(0, columns, width):
        piece = np.ascontiguousarray(values[:, left : left + width])
        other = np.empty_like(piece)
        half = 1
        while half < block:
            pairs, out = piece.reshape(-1, 2, half * piece.shape[1]), other.reshape(-1, 2, half * piece.shape[1])
            np.add(pairs[:, 0], pairs[:, 1], out=out[:, 0])
            np.subtract(pairs[:, 0], pairs[:, 1], out=out[:, 1])
            piece, other = other, piece
            half *= 2
        values[:, left : left + width] = piece


@lru_cache(maxsize=4)
def _signs(seed: int, round_number: int, number: int, size: int, block: int) -> Float32:
    """Signs ±1 / √block of a round, `[size]`; remembered, since all its clients have them."""
    generator = keyed.generator(seed, keyed.Purpose.HADAMARD, round_number, number)
    bits = np.unpackbits(np.frombuffer(generator.bytes(-(-size // 8)), np.uint8), count=size)
    return (np.float32(1) - np.float32(2) * bits) * np.float32(block**-0.5)


_PIECE = 1 << 17
"""Values that stay in the cache while they are transformed."""
