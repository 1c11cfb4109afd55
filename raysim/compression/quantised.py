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

_PIECE = 1 << 15
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
    def _sizes(self, blocks: Float32) -> Float32:
        """The magnitude of the highest level of each block `[b, block]`."""

    def compress(self, x: Float32, draw: Draw, memory: Float32) -> Levels:
        random = draw().bit_generator.random_raw(-(-self.n // 4)).view(np.uint16)
        levels = np.empty(self.n, dtype=np.int8)
        units = np.empty(self._blocks, dtype=np.float32)
        at_once = max(1, _PIECE // self._block)
        for first in range(0, self._blocks, at_once):
            left, right = first * self._block, min((first + at_once) * self._block, self.n)
            count = -(-(right - left) // self._block)
            piece = np.zeros(count * self._block, dtype=np.float32)
            piece[: right - left] = x[left:right]
            blocks = piece.reshape(count, self._block)
            unit = self._sizes(blocks) / np.float32(self._most_level)
            units[first : first + count] = unit
            blocks *= np.divide(1, unit, out=np.zeros_like(unit), where=unit >= _SMALLEST)[:, None]
            shift = random[left:right].astype(np.float32)
            shift *= np.float32(2.0**-16)
            shift += np.float32(2.0**-17)
            shift += piece[: right - left]
            np.floor(shift, out=shift)
            np.clip(shift, -self._most_level, self._most_level, out=shift)
            levels[left:right] = shift
        return Levels(levels, units)

    def restore(self, code: Levels) -> Float32:
        found = code.levels.astype(np.float32)
        whole = self.n // self._block * self._block
        blocks = found[:whole].reshape(-1, self._block)
        blocks *= code.units[: len(blocks), None]
        if whole < self.n:
            found[whole:] *= code.units[-1]
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

    def _sizes(self, blocks: Float32) -> Float32:
        squares = np.einsum("ij,ij->i", blocks, blocks, dtype=np.float64)
        found: Float32 = np.sqrt(squares).astype(np.float32)
        return found


class Integers(Quantised):
    """Integers of 8 bits (levels up to 127) or 4 (up to 7), in units of the block's largest magnitude."""

    number: ClassVar[int] = 3

    def __init__(self, n: int, bits: int, block: int) -> None:
        super().__init__(n, 2 ** (bits - 1) - 1, block)

    def _sizes(self, blocks: Float32) -> Float32:
        found: Float32 = np.maximum(blocks.max(1), -blocks.min(1))
        return found


_SMALLEST = float(np.finfo(np.float32).tiny)
"""Units below it are taken for zero, since their inverse is no float32."""
