"""Integers as bits: numbers of a fixed width, and gaps between sorted columns in Golomb's code.

Golomb, "Run-length encodings", IEEE Transactions on Information Theory 12, 1966, with Rice's power-of-two parameter.
"""

from __future__ import annotations

from math import floor, log, log2

import numpy as np

from raysim.arrays import Int64


def packed_bytes(count: int, width: int) -> int:
    """Bytes of `count` numbers of `width` bits."""
    return -(-count * width // 8)


def pack(numbers: Int64, width: int) -> bytes:
    """Numbers in [0, 2^width) as bits, the most significant first."""
    places = np.arange(width - 1, -1, -1)
    bits = (numbers[:, None] >> places) & 1
    return np.packbits(bits.astype(np.uint8).ravel()).tobytes()


def unpack(data: bytes, count: int, width: int) -> Int64:
    """The numbers that `pack` made bits of."""
    bits = np.unpackbits(np.frombuffer(data, np.uint8), count=count * width).reshape(count, width)
    found: Int64 = bits.astype(np.int64) @ (1 << np.arange(width - 1, -1, -1))
    return found


def rice_parameter(n: int, k: int) -> int:
    """The number of low bits b for which k of n columns, drawn at random, take the fewest bits: 2^b ≈ ln 2 · n / k."""
    return max(0, floor(log2(max(1.0, log(2) * n / k))))


def rice_bits(columns: Int64, low: int) -> int:
    """Bits of sorted columns: of each gap the quotient in unary, a zero, and `low` bits."""
    return int((_gaps(columns) >> low).sum()) + len(columns) * (1 + low)


def most_rice_bits(n: int, k: int, low: int) -> int:
    """The most that k of n columns can take: the gaps add up to less than n."""
    return (n >> low) + k * (1 + low)


def rice_encode(columns: Int64, low: int) -> bytes:
    """Sorted columns as bits."""
    gaps = _gaps(columns)
    quotients = gaps >> low
    bits = np.zeros(rice_bits(columns, low), dtype=np.uint8)
    ends = np.cumsum(quotients + 1 + low)
    zeros = ends - low - 1
    ones = np.ones(len(bits), dtype=bool)
    ones[zeros] = False
    for place in range(low):
        at = zeros + 1 + place
        ones[at] = False
        bits[at] = (gaps >> (low - 1 - place)) & 1
    bits[ones] = 1
    return np.packbits(bits).tobytes()


def rice_decode(data: bytes, count: int, low: int) -> Int64:
    """The columns that `rice_encode` made bits of, `[count]`.

    Raises:
        ValueError: there are fewer.
    """
    bits = np.unpackbits(np.frombuffer(data, np.uint8))
    gaps = np.empty(count, dtype=np.int64)
    at = 0
    zeros = np.flatnonzero(bits == 0)
    for i in range(count):
        place = np.searchsorted(zeros, at)
        if place == len(zeros) or zeros[place] + low >= len(bits):
            raise ValueError(f"a message has {i} of {count} columns")
        end = int(zeros[place])
        rest = 0
        for bit in bits[end + 1 : end + 1 + low].tolist():
            rest = 2 * rest + bit
        gaps[i] = ((end - at) << low) + rest
        at = end + 1 + low
    found: Int64 = np.cumsum(gaps + 1) - 1
    return found


def _gaps(columns: Int64) -> Int64:
    """Columns between each one and the one before it."""
    return np.diff(columns, prepend=-1) - 1
