"""Choosers of weights, found by import string."""

from __future__ import annotations

from typing import Any

import numpy as np


def keep(default: Any, scores: Any, /, *, trials: int, seed: int) -> Any:
    """The weights that were there before."""
    return default


def nonsense(default: Any, scores: Any, /, *, trials: int, seed: int) -> Any:
    """No weights."""
    return np.full(len(default), np.nan)
