"""Keyed random numbers of devices."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from raysim import keyed
from raysim.arrays import Float64


def normal(seed: int, purpose: keyed.Purpose, *key: npt.ArrayLike) -> Float64:
    """Standard normal numbers, one for each key, by Box and Muller's transform of two keyed uniform ones."""
    first, second = (keyed.uniform(seed, purpose, *key, part) for part in (0, 1))
    found: Float64 = np.sqrt(-2.0 * np.log1p(-first)) * np.cos(2.0 * np.pi * second)
    return found


def log_normal(seed: int, purpose: keyed.Purpose, sigma: float, *key: npt.ArrayLike) -> Float64:
    """Log-normal factors with median 1, one for each key."""
    found: Float64 = np.exp(sigma * normal(seed, purpose, *key))
    return found
