"""Values rounded at random to a few levels, in units of their block.

* Alistarh, Grubic, Li, Tomioka & Vojnovic, "QSGD: Communication-efficient SGD via gradient quantization and
  encoding", NeurIPS 2017, section 3.1 (levels of a share of the L2 norm), with numbers of a fixed width.
* Dettmers, "8-bit approximations for parallelism in deep learning", ICLR 2016 (units of a block's largest magnitude).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch

from raysim.arrays import Float32
from raysim.compression.bits import pack, packed_bytes, unpack
from raysim.compression.codec import Codec, Draw, check_length

_PIECE = 1 << 16
"""Values that stay in the cache while they are rounded."""


@dataclass(frozen=True, slots=True)
class Levels:
    """Rounded values.

    Attributes:
        levels: integers in [-s, s], `[n]`.
        units: what 1 stands for, of each block.
    """

    levels: npt.NDArray[np.int8]
    units: Float32


class Quantised(Codec[Levels]):
    """x ≈ unit · ⌊x / unit + u⌋ with u uniform in [0, 1): x on average, to 2^-17 of a unit, as u has 16 bits."""

    unbiased: ClassVar[bool] = True

    def __init__(self, n: int, levels: int, block: int) -> None:
        super().__init__(n)
        self._most_level, self._block = levels, min(block, n)
        self._blocks = -(-n // self._block)
        self._at_once = max(1, _PIECE // self._block)
        self._width = (2 * levels).bit_length()

    @abstractmethod
    def _sizes(self, blocks: Float32, room: Float32) -> Float32:
        """The magnitude of the highest level of each block `[b, block]`; `room`, of the same shape, is for anything."""

    def compress(self, x: Float32, draw: Draw, memory: Float32) -> Levels:
        generator = draw().bit_generator
        levels = np.empty(self.n, dtype=np.uint8)
        units = np.empty(self._blocks, dtype=np.float32)
        most, half = 2 * self._most_level, np.float32(0.5 + 2**16 * self._most_level)
        scaled, shift = np.empty((2, min(self._at_once, self._blocks) * self._block), dtype=np.float32)
        for blocks, values in self._pieces():
            found = levels[values]
            size, count = len(found), blocks.stop - blocks.start
            own, room = (one[: count * self._block].reshape(count, -1) for one in (scaled, shift))
            if size == own.size:
                piece = x[values].reshape(own.shape)
            else:
                scaled[:size], scaled[size:] = x[values], 0
                piece = own
            unit = np.divide(self._sizes(piece, room), np.float32(self._most_level), out=units[blocks])
            _times(piece, np.divide(1, unit, out=np.zeros_like(unit), where=unit >= _SMALLEST), own)
            shifted = shift[:size]
            np.copyto(shifted, generator.random_raw(-(-size // 4)).view(np.uint16)[:size])
            shifted += half
            _add(scaled[:size], shifted, 2.0**-16)
            np.copyto(found, scaled[:size], casting="unsafe")  # of positive numbers it is the floor
            if found.max() > most:
                np.minimum(found, np.uint8(most), out=found)
            found -= np.uint8(self._most_level)
        return Levels(levels.view(np.int8), units)

    def _pieces(self) -> Iterator[tuple[slice, slice]]:
        """Blocks and their values, as many at once as stay in the cache; the last block may be shorter."""
        for first in range(0, self._blocks, self._at_once):
            last = min(first + self._at_once, self._blocks)
            yield slice(first, last), slice(first * self._block, min(last * self._block, self.n))

    def restore(self, code: Levels) -> Float32:
        found = np.empty(self.n, dtype=np.float32)
        for blocks, values in self._pieces():
            out, units = found[values], code.units[blocks]
            np.copyto(out, code.levels[values])
            whole = len(out) // self._block
            rows = out[: whole * self._block].reshape(whole, self._block)
            _times(rows, units[:whole], rows)
            out[whole * self._block :] *= units[-1]
        return found

    def encode(self, code: Levels) -> bytes:
        numbers = code.levels.astype(np.int64) + self._most_level
        return code.units.astype("<f4").tobytes() + pack(numbers, self._width)

    def decode(self, data: bytes) -> Levels:
        check_length(data, self.most)
        units = np.frombuffer(data, "<f4", self._blocks).astype(np.float32)
        numbers = unpack(data[units.nbytes :], self.n, self._width)
        return Levels((numbers - self._most_level).astype(np.int8), units)

    def length(self, code: Levels) -> int:
        return self.most

    @property
    def most(self) -> int:
        return 4 * self._blocks + packed_bytes(self.n, self._width)


class Qsgd(Quantised):
    """Levels of a share of the block's L2 norm."""

    number: ClassVar[int] = 2

    def _sizes(self, blocks: Float32, room: Float32) -> Float32:
        squares = np.einsum("ij,ij->i", blocks, blocks)
        if not ((squares > _SQUARES[0]) & (squares < _SQUARES[1])).all():
            squares = np.einsum("ij,ij->i", blocks, blocks, dtype=np.float64)
        found: Float32 = np.sqrt(squares).astype(np.float32)
        return found


class Integers(Quantised):
    """Integers of 8 bits (levels up to 127) or 4 (up to 7), in units of the block's largest magnitude."""

    number: ClassVar[int] = 3

    def __init__(self, n: int, bits: int, block: int) -> None:
        super().__init__(n, 2 ** (bits - 1) - 1, block)

    def _sizes(self, blocks: Float32, room: Float32) -> Float32:
        magnitudes = torch.from_numpy(np.abs(blocks, out=room).view(np.int32))  # in the same order, and sooner compared
        found: Float32 = torch.amax(magnitudes, 1).numpy().view(np.float32)
        return found


def _times(blocks: Float32, factors: Float32, out: Float32) -> None:
    """Each block of `[b, block]` times its factor of `[b]`. PyTorch takes half of NumPy's time."""
    torch.mul(torch.from_numpy(blocks), torch.from_numpy(factors)[:, None], out=torch.from_numpy(out))


def _add(values: Float32, others: Float32, factor: float) -> None:
    """Add `factor` times the others to the values, in one pass."""
    torch.from_numpy(values).add_(torch.from_numpy(others), alpha=factor)


_SQUARES = 1e-30, 1e30
"""Sums of squares beyond these are made in float64: some of them may be no float32."""
_SMALLEST = float(np.finfo(np.float32).tiny)
"""Units below it are taken for zero, since their inverse is no float32."""
