"""FetchSGD: clients send count sketches, which add up; the server finds the largest values, and feeds the rest back.

Rothchild, Panda, Ullah, Ivkin, Stoica, Braverman, Gonzalez & Arora, "FetchSGD: Communication-efficient federated
learning with sketching", ICML 2020, algorithm 1, whose learning rate is that of the server's step here. The hash of a
row shifts blocks of the table's width by drawn offsets and signs: two values of a block never meet, and two of
different blocks as often as in any universal hash.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from raysim import keyed
from raysim.aggregation import Field, MeanContext, SendContext
from raysim.aggregation.stages import ModelColumns
from raysim.arrays import Float32, Float64
from raysim.compression.layers import Layers
from raysim.compression.parts import sized
from raysim.compression.replacing import Replacement, ReplacingStage
from raysim.compression.sparse import largest
from raysim.errors import ConfigError

A = TypeVar("A", Float32, Float64)


class Table:
    """A count sketch of vectors `[n]`: r rows of c values.

    Charikar, Chen & Farach-Colton, "Finding frequent items in data streams", ICALP 2002. Of a row, each value is added
    with its sign to one place; the estimate of a value is the median over the rows of its places, with its signs.

    Attributes:
        size: values of a table, r · c.
    """

    def __init__(self, n: int, rows: int, width: int, seed: int, number: int) -> None:
        self._n, self._rows, self._width = n, rows, width
        self.size = rows * width
        blocks = -(-n // width)
        generator = keyed.generator(seed, keyed.Purpose.SKETCH, number)
        self._offsets = generator.integers(0, width, (rows, blocks))
        self._block_signs = _signs(generator, rows * blocks).reshape(rows, blocks)
        self._signs = _signs(generator, n).astype(np.float32)

    def of(self, x: A) -> A:
        """The table of a vector, `[size]`, in its precision."""
        found = np.zeros((self._rows, 2 * self._width), dtype=x.dtype)
        signed = x * self._signs
        for row, offsets, signs in zip(found, self._offsets.tolist(), self._block_signs.tolist(), strict=True):
            for left, offset, sign in zip(range(0, self._n, self._width), offsets, signs, strict=True):
                piece = signed[left : left + self._width]
                place = row[offset : offset + len(piece)]
                (np.add if sign > 0 else np.subtract)(place, piece, place)
        return (found[:, : self._width] + found[:, self._width :]).ravel()

    def estimates(self, table: Float64) -> Float64:
        """The values that a table stands for, `[n]`."""
        found = np.empty(self._n)
        rows = table.reshape(self._rows, self._width)
        doubled = np.concatenate([rows, rows], axis=1)
        for block, left in enumerate(range(0, self._n, self._width)):
            count = min(self._width, self._n - left)
            several = np.stack(
                [
                    self._block_signs[row, block] * doubled[row, self._offsets[row, block] :][:count]
                    for row in range(self._rows)
                ]
            )
            found[left : left + count] = np.median(several, axis=0)
        return found * self._signs


class Sketch(ReplacingStage["_SketchedField"]):
    """Replaces a field by the table of the layers that are compressed, and the values of the others.

    S_u ← ρ S_u + S, S_e ← S_e + S_u, Δ = top-k of the estimates of S_e, S_e ← S_e - S(Δ): the server takes Δ.
    """

    breaks = frozenset({"bounded", "bounded_l1"})

    def __init__(
        self,
        columns: ModelColumns,
        rows: int,
        width: int,
        fraction: float,
        momentum: float,
        include: Sequence[str],
        exclude: Sequence[str],
        dense_below: int,
    ) -> None:
        super().__init__(columns, include, exclude, dense_below)
        self._rows, self._width, self._fraction, self._momentum = rows, width, fraction, momentum

    def replacement(self, number: int, field: Field, layers: Layers) -> _SketchedField:
        if self._rows * self._width >= layers.n:
            raise ConfigError(
                f"a table of {self._rows} x {self._width:,} values is no smaller than the {layers.n:,} values of "
                f"{field.name!r}; lower width"
            )
        k = round(self._fraction * layers.n)
        if not k:
            raise ConfigError(f"fraction {self._fraction:g} of {layers.n:,} values is a top-k of nothing; raise it")
        if k >= self._width:
            raise ConfigError(
                f"fraction {self._fraction:g} of {layers.n:,} values is more than a row of {self._width:,} values "
                "can tell apart; lower fraction, or raise width"
            )
        width = self._width - sized(self._rows * self._width + layers.dense, self.columns)
        return _SketchedField(number, layers, self._rows * width, k, self._rows, width)

    def init(self, model: Float32) -> Mapping[str, Float64]:
        kept = ("error", "velocity") if self._momentum else ("error",)
        return {f"{name}.{what}": np.zeros(part.size) for name, part in self.replaced.items() for what in kept}

    def client(self, sent: Mapping[str, Tensor], ctx: SendContext) -> Mapping[str, Tensor]:
        found = dict(sent)
        for name, part in self.replaced.items():
            table, rows = part.table(ctx.seed), sent[name].cpu().numpy()
            with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is left out when it is folded
                made = [np.concatenate([table.of(part.layers.take(row)), row[part.layers.rest]]) for row in rows]
            found[name] = torch.from_numpy(np.stack(made)).to(sent[name].device)
        return found

    def server(
        self, mean: Mapping[str, Float64], state: Mapping[str, Float64], ctx: MeanContext
    ) -> tuple[Mapping[str, Float64], Mapping[str, Float64], Mapping[str, float]]:
        found, after = dict(mean), {}
        sizes = {field.name: field.size for field in ctx.fields}
        for name, part in self.replaced.items():
            table, moved = part.table(ctx.seed), mean[name][: part.size]
            if self._momentum:
                moved = after[f"{name}.velocity"] = self._momentum * state[f"{name}.velocity"] + moved
            error = state[f"{name}.error"] + moved
            estimates = table.estimates(error)
            chosen = largest(estimates, part.k)
            taken = np.zeros(part.layers.n)
            taken[chosen] = estimates[chosen]
            after[f"{name}.error"] = error - table.of(taken)
            found[name] = np.zeros(sizes[name])
            part.layers.put(found[name], taken)
            found[name][part.layers.rest] = mean[name][part.size :]
        return found, after, {}


@dataclass(frozen=True, slots=True)
class _SketchedField(Replacement):
    """A field that is sketched, of which the server takes k values."""

    k: int
    rows: int
    width: int

    def table(self, seed: int) -> Table:
        return _table(self.layers.n, self.rows, self.width, seed, self.number)


@lru_cache(maxsize=4)
def _table(n: int, rows: int, width: int, seed: int, number: int) -> Table:
    """The table of a field, which is the same in all rounds."""
    return Table(n, rows, width, seed, number)


def _signs(generator: np.random.Generator, count: int) -> npt.NDArray[np.int8]:
    """Signs ±1."""
    bits = np.unpackbits(np.frombuffer(generator.bytes(-(-count // 8)), np.uint8), count=count)
    return (1 - 2 * bits.astype(np.int8)).astype(np.int8)
