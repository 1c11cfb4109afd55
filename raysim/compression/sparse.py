"""Top-k: the values of largest magnitude and where they are.

* Strom, "Scalable distributed DNN training using commodity GPU cloud computing", INTERSPEECH 2015.
* Aji & Heafield, "Sparse communication for distributed gradient descent", EMNLP 2017.
* Sattler, Wiedemann, Müller & Samek, "Robust and communication-efficient federated learning from non-i.i.d. data",
  2019, section IV (Golomb's code for the gaps).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from raysim.arrays import Float32, Float64, Int64
from raysim.compression.bits import most_rice_bits, rice_bits, rice_decode, rice_encode, rice_parameter
from raysim.compression.codec import Codec, Draw, check_length
from raysim.errors import ConfigError

_COUNT = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Sparse:
    """Some values of a vector.

    Attributes:
        columns: ascending, `[k]`.
        values: in them, `[k]`, none of them zero.
    """

    columns: Int64
    values: Float32


class TopK(Codec[Sparse]):
    """The k = fraction · n values of largest magnitude; of equal ones those that come first. Zeros are never sent."""

    number: ClassVar[int] = 1

    def __init__(self, n: int, fraction: float) -> None:
        """Keep a share of n values.

        Raises:
            ConfigError: that is none.
        """
        super().__init__(n)
        self.k = min(n, round(fraction * n))
        if not self.k:
            raise ConfigError(
                f"fraction {fraction:g} of {n:,} values is a top-k of nothing; raise it to {1 / n:.2g} or more"
            )
        self._low = rice_parameter(n, self.k)

    def compress(self, x: Float32, draw: Draw, memory: Float32) -> Sparse:
        columns = largest(x, self.k)
        values = x[columns]
        if not values.all():
            columns, values = columns[values != 0], values[values != 0]
        return Sparse(columns, values)

    def restore(self, code: Sparse) -> Float32:
        found = np.zeros(self.n, dtype=np.float32)
        found[code.columns] = code.values
        return found

    def encode(self, code: Sparse) -> bytes:
        count = _COUNT.pack(len(code.columns))
        return count + code.values.astype("<f4").tobytes() + rice_encode(code.columns, self._low)

    def decode(self, data: bytes) -> Sparse:
        if len(data) < _COUNT.size:
            raise ValueError(f"a message of {len(data)} bytes; expected at least {_COUNT.size}")
        (count,) = _COUNT.unpack_from(data)
        start = _COUNT.size + 4 * count
        if count > self.k or len(data) < start:
            raise ValueError(f"a message of {len(data)} bytes with {count} values; expected at most {self.k}")
        values = np.frombuffer(data, "<f4", count, _COUNT.size).astype(np.float32)
        found = Sparse(rice_decode(data[start:], count, self._low), values)
        check_length(data, self.length(found))
        if count and found.columns[-1] >= self.n:
            raise ValueError(f"a message has a value in column {found.columns[-1]} of {self.n}")
        return found

    def length(self, code: Sparse) -> int:
        return _COUNT.size + 4 * len(code.columns) + -(-rice_bits(code.columns, self._low) // 8)

    @property
    def most(self) -> int:
        return _COUNT.size + 4 * self.k + -(-most_rice_bits(self.n, self.k, self._low) // 8)


def largest(x: Float32 | Float64, k: int) -> Int64:
    """The columns of the k values of largest magnitude, ascending; of equal magnitudes the first columns.

    Args:
        x: finite, `[n]`, with n at least k.
    """
    size = np.abs(x)
    candidates = _candidates(size, k)
    if candidates is not None:
        size = size[candidates]
    threshold = np.partition(size, len(size) - k)[len(size) - k]
    chosen = np.flatnonzero(size >= threshold)
    if len(chosen) > k:
        kept = size[chosen] > threshold
        kept[np.flatnonzero(~kept)[: k - int(kept.sum())]] = True
        chosen = chosen[kept]
    return chosen if candidates is None else candidates[chosen]


def _candidates(size: Float32 | Float64, k: int) -> Int64 | None:
    """Columns that have the k largest among them, about twice as many, by a threshold of a sample; None: all."""
    sample = size[::_EVERY]
    at = len(sample) - 1 - 2 * k // _EVERY - 8
    if 4 * k > len(size) or at < 0:
        return None
    found = np.flatnonzero(size >= np.partition(sample, at)[at])
    return found if len(found) >= k else None


_EVERY = 61
"""The stride of the sample, in values; prime, so that it is no column of a matrix."""
