"""A bit or two bytes a value: signs and floats of 16 bits.

* Karimireddy, Rebjock, Stich & Jaggi, "Error feedback fixes SignSGD and other gradient compression schemes", ICML 2019,
  algorithm 1 (the sign times the mean magnitude).
* Bernstein, Zhao, Azizzadenesheli & Anandkumar, "signSGD with majority vote is communication efficient and fault
  tolerant", ICLR 2019, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch

from raysim.arrays import Bools, Float32, Float64
from raysim.compression.codec import Codec, Draw, check_length


@dataclass(frozen=True, slots=True)
class Signs:
    """Signs of values.

    Attributes:
        negative: which are below zero, `[n]`; zero counts as positive.
        scales: the magnitude of all values of a layer, `[layers]`.
    """

    negative: Bools
    scales: Float32


class Sign(Codec[Signs]):
    """sign(x) · ‖x‖₁ / n, layer by layer."""

    number: ClassVar[int] = 4

    def __init__(self, n: int, layers: Sequence[int]) -> None:
        """Signs of vectors of layers of these sizes, which add up to n."""
        super().__init__(n)
        ends = np.cumsum(layers).tolist()
        self._layers = [slice(end - size, end) for end, size in zip(ends, layers, strict=True)]

    def compress(self, x: Float32, draw: Draw, memory: Float32) -> Signs:
        means = [np.abs(x[layer]).mean(dtype=np.float64) for layer in self._layers]
        return Signs(x < 0, np.array(means, dtype=np.float32))

    def restore(self, code: Signs) -> Float32:
        found = _signs(code.negative)
        for layer, scale in zip(self._layers, code.scales, strict=True):
            found[layer] *= scale
        return found

    def encode(self, code: Signs) -> bytes:
        return code.scales.astype("<f4").tobytes() + np.packbits(code.negative).tobytes()

    def decode(self, data: bytes) -> Signs:
        check_length(data, self.most)
        scales = np.frombuffer(data, "<f4", len(self._layers)).astype(np.float32)
        bits = np.unpackbits(np.frombuffer(data, np.uint8, offset=scales.nbytes), count=self.n)
        return Signs(bits.astype(np.bool_), scales)

    def length(self, code: Signs) -> int:
        return self.most

    @property
    def most(self) -> int:
        return 4 * len(self._layers) + -(-self.n // 8)


class Majority(Sign):
    """sign(x); of the clients' weighted mean the server takes the sign, times a step."""

    number: ClassVar[int] = 5

    def __init__(self, n: int, step: float) -> None:
        super().__init__(n, ())
        self._step = step

    def restore(self, code: Signs) -> Float32:
        return _signs(code.negative)

    def finish(self, mean: Float64) -> Float64:
        return self._step * np.sign(mean)


class Cast(Codec[npt.NDArray[np.uint16]]):
    """The nearest float of 16 bits. Magnitudes beyond the largest one become it."""

    number: ClassVar[int] = 6

    def __init__(self, n: int, form: Literal["fp16", "bf16"]) -> None:
        super().__init__(n)
        self._type = torch.float16 if form == "fp16" else torch.bfloat16

    def compress(self, x: Float32, draw: Draw, memory: Float32) -> npt.NDArray[np.uint16]:
        largest = torch.finfo(self._type).max
        near = torch.from_numpy(x).clamp(-largest, largest).to(self._type)
        found: npt.NDArray[np.uint16] = near.view(torch.int16).numpy().view(np.uint16)
        return found

    def restore(self, code: npt.NDArray[np.uint16]) -> Float32:
        found: Float32 = torch.from_numpy(code.view(np.int16)).view(self._type).float().numpy()
        return found

    def encode(self, code: npt.NDArray[np.uint16]) -> bytes:
        return code.astype("<u2").tobytes()

    def decode(self, data: bytes) -> npt.NDArray[np.uint16]:
        check_length(data, self.most)
        return np.frombuffer(data, "<u2").astype(np.uint16)

    def length(self, code: npt.NDArray[np.uint16]) -> int:
        return self.most

    @property
    def most(self) -> int:
        return 2 * self.n


def _signs(negative: Bools) -> Float32:
    """-1 where negative, else 1."""
    found = negative.view(np.int8).astype(np.float32)
    found *= np.float32(-2)
    found += np.float32(1)
    return found
