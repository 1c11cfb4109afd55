"""Memory is used again exactly when nobody else looks at it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from raysim.aggregation import Buffers
from raysim.aggregation.buffers import SPARES

Float32 = npt.NDArray[np.float32]


def test_a_vector_comes_back_once_nobody_refers_to_it() -> None:
    buffers = Buffers()
    first, second = buffers.take(8, np.int64), buffers.take(8, np.int64)
    assert not np.shares_memory(first, second)
    place = first.ctypes.data
    del first
    assert buffers.take(8, np.int64).ctypes.data == place


def test_whatever_looks_at_a_vector_keeps_it() -> None:
    looks: list[Callable[[Float32], Any]] = [
        lambda vector: vector[2:5],
        lambda vector: vector[2:][1:],
        torch.from_numpy,
        lambda vector: torch.from_numpy(vector)[1:].numpy(),
    ]
    for look in looks:
        buffers = Buffers()
        held = look(_filled(buffers, 3.0))
        _filled(buffers, 5.0)
        assert float(held[0]) == 3.0


def _filled(buffers: Buffers, value: float) -> Float32:
    vector = buffers.take(8, np.float32)
    vector[:] = value
    return vector


def test_vectors_of_another_size_or_type_are_not_mixed_up() -> None:
    buffers = Buffers()
    for size, dtype in [(8, np.int64), (9, np.int64), (8, np.float64), (0, np.float32)]:
        vector = buffers.take(size, dtype)
        assert vector.shape == (size,)
        assert vector.dtype == dtype
        del vector


def test_more_than_is_needed_is_given_back_in_time() -> None:
    buffers = Buffers()
    many = [buffers.take(8, np.int64) for _ in range(5)]
    del many
    for _ in range(SPARES + 1):
        buffers.take(8, np.int64)
    assert len(buffers._kept) == 1
