"""The smallest number or round that a condition holds for."""

from __future__ import annotations

from collections.abc import Callable

_TIMES = 60
"""Doublings and halvings at most: as many as a float has bits that count."""


def smallest(holds: Callable[[float], bool], low: float, high: float, precision: float = 1e-12) -> float:
    """The smallest number that the condition holds for, from above: it holds for what is returned.

    Args:
        holds: false below a threshold, true above it.
        low: false here.
        high: a first guess, doubled until the condition holds.
        precision: how far above the threshold the number may be, relative to it.

    Raises:
        ValueError: the condition holds nowhere near.
    """
    for _ in range(_TIMES):
        if holds(high):
            break
        low, high = high, 2 * high
    else:
        raise ValueError(f"the condition does not hold up to {high:g}")
    for _ in range(_TIMES):
        if high - low <= precision * high:
            break
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def last_round(holds: Callable[[int], bool], rounds: int) -> int:
    """The last of these rounds, from 1, that the condition holds for; 0 for none.

    Args:
        holds: true up to a round, false after it.
    """
    if holds(rounds):
        return rounds
    low, high = 0, rounds
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
