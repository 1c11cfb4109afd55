"""PowerSGD: a matrix as the product of two narrow ones, by one step of the power method from where the last one ended.

Vogels, Karimireddy & Jaggi, "PowerSGD: Practical low-rank gradient compression for distributed optimization", NeurIPS
2019, algorithm 1. There the workers add up P = M Q before it is made orthonormal, and meet twice in a step. Clients of
a federation meet once: each sends the factors of its own update, and starts from its own last Q.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from raysim.arrays import Float32
from raysim.compression.codec import Codec, Draw, check_length
from raysim.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Factors:
    """What is sent of a vector.

    Attributes:
        left, right: of each matrix `[n, m]` that has factors, float32 `[n, r]` and `[m, r]`.
        rest: the values of the other layers.
    """

    left: tuple[Float32, ...]
    right: tuple[Float32, ...]
    rest: Float32


@dataclass(frozen=True, slots=True)
class _Matrix:
    start: int
    rows: int
    columns: int

    @property
    def span(self) -> slice:
        return slice(self.start, self.start + self.rows * self.columns)


class PowerSgd(Codec[Factors]):
    """P = orth(M Q), Q' = Mᵀ P, M ≈ P Q'ᵀ. Of a layer the first dimension are the rows, all others the columns."""

    number: ClassVar[int] = 7

    def __init__(self, n: int, shapes: Sequence[tuple[int, ...]], rank: int) -> None:
        """Factors of layers of these shapes, one after the other.

        Raises:
            ConfigError: no layer has factors that are smaller than itself.
        """
        super().__init__(n)
        self._rank = rank
        self._matrices: list[_Matrix] = []
        rest, start = [], 0
        for shape in shapes:
            size = int(np.prod(shape))
            rows = shape[0] if shape else 1
            if len(shape) > 1 and rank * (rows + size // rows) < size:
                self._matrices.append(_Matrix(start, rows, size // rows))
            else:
                rest.append(np.arange(start, start + size))
            start += size
        if not self._matrices:
            raise ConfigError(f"no layer is a matrix that factors of rank {rank} make smaller; lower rank")
        self._rest = np.concatenate([np.empty(0, dtype=np.int64), *rest])
        self.memory = sum(one.columns for one in self._matrices) * rank

    def compress(self, x: Float32, draw: Draw, memory: Float32) -> Factors:
        if not memory.any():
            memory[:] = draw().standard_normal(len(memory), dtype=np.float32)
        left, right, at = [], [], 0
        for one in self._matrices:
            # Copies: kernels that see another alignment give other bits.
            matrix = torch.from_numpy(x[one.span].reshape(one.rows, one.columns)).clone()
            start = memory[at : at + one.columns * self._rank].reshape(one.columns, self._rank)
            p = _orthonormal(matrix @ torch.from_numpy(start).clone())
            q = (matrix.T @ p).numpy()
            left.append(p.numpy())
            right.append(q)
            start[:] = q
            at += one.columns * self._rank
        return Factors(tuple(left), tuple(right), x[self._rest])

    def restore(self, code: Factors) -> Float32:
        found = np.empty(self.n, dtype=np.float32)
        for one, p, q in zip(self._matrices, code.left, code.right, strict=True):
            product = torch.from_numpy(p).clone() @ torch.from_numpy(q).clone().T
            found[one.span] = product.reshape(-1).numpy()
        found[self._rest] = code.rest
        return found

    def encode(self, code: Factors) -> bytes:
        return b"".join(part.astype("<f4").tobytes() for part in (*code.left, *code.right, code.rest))

    def decode(self, data: bytes) -> Factors:
        check_length(data, self.most)
        values, at, parts = np.frombuffer(data, "<f4").astype(np.float32), 0, []
        for size in [*(one.rows for one in self._matrices), *(one.columns for one in self._matrices)]:
            parts.append(values[at : at + size * self._rank].reshape(size, self._rank))
            at += size * self._rank
        half = len(self._matrices)
        return Factors(tuple(parts[:half]), tuple(parts[half:]), values[at:])

    def length(self, code: Factors) -> int:
        return self.most

    @property
    def most(self) -> int:
        return 4 * (self._rank * sum(one.rows + one.columns for one in self._matrices) + len(self._rest))


def _orthonormal(p: Tensor) -> Tensor:
    """Orthonormal columns that span those of p `[n, r]`, in float64 on the way."""
    found: Tensor = torch.linalg.qr(p.double()).Q.float()
    return found
