"""Weights that sum to 1 as numbers in a box, and back: samplers know boxes only.

Both coordinates make every point of the simplex equally likely where the numbers are drawn uniformly, so that random
trials are not biased towards some client.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from raysim.arrays import Float64

Coordinates = Literal["sticks", "logs"]

LEAST = 1e-6
"""Every weight is at least about this: a round may draw clients of muted groups only, and must have a mean."""
BOUNDS: dict[Coordinates, tuple[float, float]] = {"sticks": (0.0, 1.0), "logs": (1e-4, 1.0 - 1e-4)}


def size(coordinates: Coordinates, count: int) -> int:
    """How many numbers `count` weights become."""
    return count - 1 if coordinates == "sticks" else count


def to_weights(coordinates: Coordinates, box: Float64, count: int) -> Float64:
    """The weights `[count]` of a point of the box."""
    if coordinates == "sticks":
        left, raw = 1.0, np.empty(count)
        for k, x in enumerate(box.tolist()):
            # Of what is left of the stick: the share that makes the whole uniform on the simplex.
            share = 1.0 - (1.0 - x) ** (1.0 / (count - 1 - k))
            raw[k] = left * share
            left -= raw[k]
        raw[-1] = left
    else:
        raw = -np.log(box)
    weights: Float64 = np.maximum(raw / raw.sum(), 0.0) + LEAST
    weights /= weights.sum()
    return weights


def to_box(coordinates: Coordinates, weights: Float64) -> Float64:
    """The point of the box whose weights these are, as nearly as `LEAST` and the box allow."""
    low, high = BOUNDS[coordinates]
    count = len(weights)
    wanted = np.maximum(weights / weights.sum() * (1.0 + count * LEAST) - LEAST, 0.0)
    wanted /= wanted.sum()
    if coordinates == "logs":
        scale = min(count, -np.log(low) / wanted.max())  # as large as an exponential draw would be, if that fits
        logs: Float64 = np.clip(np.exp(-scale * wanted), low, high)
        return logs
    left, box = 1.0, np.empty(count - 1)
    for k in range(count - 1):
        share = min(wanted[k] / left, 1.0) if left > 0 else 0.0
        box[k] = 1.0 - (1.0 - share) ** (count - 1 - k)
        left -= wanted[k]
    sticks: Float64 = np.clip(box, low, high)
    return sticks
