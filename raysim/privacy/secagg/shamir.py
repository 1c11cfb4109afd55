"""Shamir's secret sharing over a prime field (Shamir, "How to Share a Secret", CACM 1979)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

PRIME = 2**256 + 297
"""The smallest prime above 2^256: secrets are at most 32 bytes."""
SHARE_BYTES = 33
"""Of an element of the field."""

_WIDE = 48
"""Bytes that are reduced to a coefficient, which is then uniform up to 2^-127."""


def split(secret: int, threshold: int, points: Sequence[int], key: bytes) -> list[int]:
    """Shares of a secret: values of a random polynomial of degree `threshold` - 1 whose value at 0 is the secret.

    Args:
        secret: in [0, 2^256).
        threshold: shares that give the secret back; fewer say nothing about it.
        points: different, in [1, PRIME); one for each share.
        key: of the polynomial; the same key gives the same shares.

    Raises:
        ValueError: there are fewer points than the threshold.
    """
    if len(points) < threshold:
        raise ValueError(f"{len(points)} shares cannot reach a threshold of {threshold}")
    drawn = hashlib.shake_256(key).digest(_WIDE * (threshold - 1))
    cut = (drawn[i : i + _WIDE] for i in range(0, len(drawn), _WIDE))
    coefficients = [int.from_bytes(one, "little") % PRIME for one in cut]
    found = []
    for point in points:
        value = 0
        for coefficient in coefficients:  # Horner's rule, the constant last
            value = (value + coefficient) * point % PRIME
        found.append((value + secret) % PRIME)
    return found


def join(shares: Sequence[tuple[int, int]]) -> int:
    """The secret of `threshold` shares, each a point and its value: Lagrange's interpolation at 0."""
    points = [point for point, _ in shares]
    total = 0
    for point, value in shares:
        over = under = 1
        for other in points:
            if other != point:
                over = over * other % PRIME
                under = under * (other - point) % PRIME
        total += value * over * pow(under, -1, PRIME)
    return total % PRIME
