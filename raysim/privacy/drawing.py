"""Noise by ranges of columns: the same values whatever ranges a step is cut into.

Columns are drawn in blocks of 32,768, each by a Philox generator of its own key. Nothing is drawn for padding.
Keyed noise is a simulation of privacy: anyone who knows the seed can take it away again.
"""

from __future__ import annotations

import os
from typing import Literal, TypeVar

import numpy as np

from raysim import keyed
from raysim.aggregation.stages import ModelColumns
from raysim.arrays import Float64, Int64

BLOCK = 1 << 15
"""Columns of a generator."""

A = TypeVar("A", Float64, Int64)

Generator = Literal["keyed", "system"]
"""Where noise comes from: the experiment's seed, or the operating system's source of randomness."""

INEXACT = "drawn from the system's randomness, so that no run can be repeated"
"""What is recorded of a run with noise from the system."""


def normal(generator: Generator, seed: int, purpose: keyed.Purpose, key: tuple[int, ...], columns: slice) -> Float64:
    """Standard normal numbers in these columns, float64.

    Args:
        key: of the vector that they are a part of.
    """
    if generator == "system":
        return _system_normal(columns.stop - columns.start)
    found: Float64 = np.empty(columns.stop - columns.start)
    for block in range(columns.start // BLOCK, -(-columns.stop // BLOCK)):
        first, last = max(columns.start, block * BLOCK), min(columns.stop, (block + 1) * BLOCK)
        drawn = keyed.generator(seed, purpose, *key, block).standard_normal(last - block * BLOCK)
        found[first - columns.start : last - columns.start] = drawn[first - block * BLOCK :]
    return found


def columns_of(size: int, columns: slice, model: ModelColumns) -> slice:
    """Columns of a vector of this many values in a call for columns of the model: a part of P or T, any other whole."""
    if size not in (model.size, model.trainable):
        return slice(0, size)
    return slice(min(columns.start, size), min(columns.stop, size))


def without_padding(values: A, size: int, columns: slice, model: ModelColumns) -> A:
    """Values in these columns of a vector of `size`, with zeros where a model has padding, in place."""
    if size not in (model.size, model.trainable):
        return values
    end = 0
    for segment in (*model.segments, None):
        start = size if segment is None else segment.start
        values[max(end - columns.start, 0) : max(start - columns.start, 0)] = 0
        if segment is not None:
            end = segment.start + segment.size
        if end >= columns.stop:
            break
    return values


def _system_normal(count: int) -> Float64:
    """Standard normal numbers from bytes of the operating system, by the method of Box & Muller (1958)."""
    pairs = -(-count // 2)
    words = np.frombuffer(os.urandom(16 * pairs), dtype=np.uint64) >> np.uint64(11)
    uniform = (words.astype(np.float64) + 0.5) * 2.0**-53
    radius, angle = np.sqrt(-2.0 * np.log(uniform[:pairs])), 2.0 * np.pi * uniform[pairs:]
    found: Float64 = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]
    return found
