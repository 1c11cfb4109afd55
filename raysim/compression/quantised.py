"""Values rounded at random to a few levels, in units of their block.

* Alistarh, Grubic, Li, Tomioka & Vojnovic, "QSGD: Communication-efficient SGD via gradient quantization and
  encoding", NeurIPS 2017, section 3.1 (levels of a share of the L2 norm), with numbers of a fixed width.
* Dettmers, "8-bit approximations for parallelism in deep learning", ICLR 2016 (units of a block's largest magnitude).
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

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
        self._width = (2 * levels).bit_length()

    @abstractmethod
    def _sizes(self, blocks: Float32, room: Float32) -> Float32:
        """The magnitude of the highest level of each block `[b, block]`; `room`, of the same shape, is for anything."""

    def compress(self, x: Float32, draw: Draw, memory: Float32) -> Levels:
        generator = draw().bit_generator
        levels = np.empty(self.n, dtype=np.uint8)
        units = np.empty(self._blocks, dtype=np.float32)
        at_once = max(1, _PIECE // self._block)
        piece, other = np.empty((2, at_once * self._block), dtype=np.float32)
        for first in range(0, self._blocks, at_once):
            left, right = first * self._block, min((first + at_once) * self._block, self.n)
            size, count = right - left, -(-(right - left) // self._block)
            piece[:size], piece[size:] = x[left:right], 0
            blocks, room = (one[: count * self._block].reshape(count, -1) for one in (piece, other))
            unit = self._sizes(blocks, room) / np.float32(self._most_level)
            units[first : first + count] = unit
            blocks *= np.divide(1, unit, out=np.zeros_like(unit), where=unit >= _SMALLEST)[:, None]
            shift = other[:size]
            np.copyto(shift, generator.random_raw(-(-size // 4)).view(np.uint16)[:size])
            shift *= np.float32(2.0**-16)
            shift += np.float32(2.0**-17 + self._most_level)
            shift += piece[:size]
            np.copyto(levels[left:right], shift, casting="unsafe")  # of positive numbers it is the floor
        np.minimum(levels, np.uint8(2 * self._most_level), out=levels)
        levels -= np.uint8(self._most_level)
        return Levels(levels.view(np.int8), units)

    def restore(self, code: Levels) -> Float32:
        found = np.empty(self.n, dtype=np.float32)
        whole, at_once = self.n // self._block, max(1, _PIECE // self._block)
        for first in range(0, whole, at_once):
            blocks = slice(first, min(first + at_once, whole))
            values = slice(blocks.start * self._block, blocks.stop * self._block)
            levels, out = (one[values].reshape(-1, self._block) for one in (code.levels, found))
            np.multiply(levels, code.units[blocks, None], out=out)
        rest = whole * self._block
        if rest < self.n:
            np.multiply(code.levels[rest:], code.units[-1], out=found[rest:])
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
        found: Float32 = np.abs(blocks, out=room).max(1)
        return found


_SQUARES = 1e-30, 1e30
"""Sums of squares beyond these are made in float64: some of them may be no float32."""
_SMALLEST = float(np.finfo(np.float32).tiny)
"""Units below it are taken for zero, since their inverse is no float32."""
