"""Integers modulo a power of two: what a client's values become, and the length of the message that has them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from raysim import keyed
from raysim.aggregation.fixed_point import FixedPoint
from raysim.aggregation.records import Field
from raysim.arrays import Array, Int64, UInt8
from raysim.config.protection import IntegersConfig

_CHUNK = 1 << 15


@dataclass(frozen=True, slots=True)
class NarrowPoint(FixedPoint):
    """Values in [-clip, clip] in units of clip / ((2^(bits-1) - 1)·m), where weights w sum to at most 1 over m clients.

    An addend w·x is rounded up or down at random, to the next unit, so that it is right on average. The sum of m
    addends is below m·2^(bits-1) in magnitude and fits a word of bits + ⌈log2 m⌉ bits; with equal weights an addend
    fits `bits`.

    Attributes:
        bits: of an addend.
        clip: the largest magnitude of a value.
        cohort: m.
    """

    bits: int = 16
    clip: float = 1.0
    cohort: int = 1

    @property
    def scale(self) -> float:
        """Units in 1.0."""
        return (2.0 ** (self.bits - 1) - 1) * self.cohort / self.clip

    @property
    def limit(self) -> float:
        """Larger values are clipped."""
        return float("inf")

    @property
    def word(self) -> int:
        """Bits of a word."""
        return self.bits + math.ceil(math.log2(self.cohort))

    def rounded(self, values: Tensor, weight: float, key: tuple[int, int, int, int], start: int) -> Tensor:
        """The addends of one client, int64 `[n]`.

        Args:
            values: finite, float32 `[n]`, the columns from `start` on.
            key: seed, round, client and number of the field.
        """
        seed, *rest = key
        columns = np.arange(start, start + len(values))
        up = torch.from_numpy(keyed.uniform(seed, keyed.Purpose.STOCHASTIC_ROUNDING, *rest, columns)).to(values.device)
        exact = values.double().clamp_(-self.clip, self.clip).mul_(weight * self.scale)
        return exact.add_(up).floor_().to(torch.int64)

    def add_client(self, total: Tensor, values: Tensor, weight: float, key: tuple[int, int, int, int]) -> None:
        """Add one client's addends to an int64 total `[size]` in place."""
        for start in range(0, len(values), _CHUNK):
            part = slice(start, start + _CHUNK)
            total[part] += self.rounded(values[part], weight, key, start)


def formats(config: IntegersConfig, fields: Sequence[Field], cohort: int) -> tuple[Field, ...]:
    """The fields in the formats in which a cohort of this size sends them.

    With fewer than 64 bits, fields of less than half as many values as the longest (lengths, losses, counts) still
    travel in 64: they are few, and in no known range.
    """
    if config.bits == 64:
        return tuple(fields)
    assert config.clip is not None, "the configuration asks for it"
    form = NarrowPoint(bits=config.bits, clip=config.clip, cohort=max(cohort, 1))
    longest = max(field.size for field in fields)
    return tuple(field if 2 * field.size < longest else replace(field, format=form) for field in fields)


def word_bits(field: Field) -> int:
    """Bits of a word of a field."""
    return field.format.word if isinstance(field.format, NarrowPoint) else 64


def to_words(total: Int64, bits: int) -> Array:
    """Integers modulo 2^bits, as uint32 up to 32 bits, else uint64."""
    words = total.view(np.uint64)
    if bits == 64:
        return words
    cut = words & np.uint64((1 << bits) - 1)
    return cut.astype(np.uint32) if bits <= 32 else cut


def within(words: Array, bits: int) -> Array:
    """Words whose sums may be larger than their modulus, in place modulo 2^bits."""
    if bits < 8 * words.itemsize:
        words &= words.dtype.type((1 << bits) - 1)
    return words


def from_words(words: Array, bits: int) -> Int64:
    """The integers in [-2^(bits-1), 2^(bits-1)) that are equal to these words modulo 2^bits."""
    if bits == 64:
        return words.view(np.int64)
    found = words.astype(np.int64)
    found[found >= 1 << (bits - 1)] -= 1 << bits
    return found


def message_bytes(fields: Sequence[Field], values: Sequence[int]) -> int:
    """Bytes of a client's message: its weight and the fields in 64 bits, then the others, bit after bit.

    Args:
        values: of each field, without padding.
    """
    counts = [(count, word_bits(field)) for field, count in zip(fields, values, strict=True)]
    packed = sum(-(-count * bits // 8) for count, bits in counts if bits < 64)
    return 8 + sum(8 * count for count, bits in counts if bits == 64) + packed


def pack(words: Mapping[str, Array], bits: Mapping[str, int]) -> bytes:
    """A client's message: the vectors one after the other, those of fewer than 64 bits bit after bit."""
    return b"".join(
        words[name].astype("<u8").tobytes() if bits[name] == 64 else _packed(words[name], bits[name]).tobytes()
        for name in words
    )


def _packed(words: Array, bits: int) -> UInt8:
    each = words.astype("<u8")[:, None].view(np.uint8)
    return np.packbits(np.unpackbits(each, axis=1, bitorder="little")[:, :bits], bitorder="little")
