"""What a codec is: how the values of a message become shorter, and the bytes that are sent."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Generic, TypeVar

import numpy as np

from raysim.arrays import Float32, Float64

Draw = Callable[[], np.random.Generator]
"""The generator of a message, keyed by its round and its sender; made where it is needed."""

C = TypeVar("C")


class Codec(ABC, Generic[C]):
    """Makes messages of vectors of n values, all of them finite.

    Contract: `restore(compress(x))` is what a receiver has, and equals `restore(decode(encode(compress(x))))` bit for
    bit; `length` is the number of bytes of `encode`, found without making them. Nothing is kept on `self`; random
    choices are those of `Draw`.

    Example:
        >>> codec = TopK(100, fraction=0.1)
        >>> code = codec.compress(values, draw, memory)
        >>> codec.restore(codec.decode(codec.encode(code))) == codec.restore(code)

    Attributes:
        n: values of a vector.
        memory: values that a sender keeps from message to message, zero before the first.
    """

    number: ClassVar[int]
    """Of the codec in a message's header."""
    unbiased: ClassVar[bool] = False
    """Whether what a receiver has is the vector on average over `Draw`."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.memory = 0

    @abstractmethod
    def compress(self, x: Float32, draw: Draw, memory: Float32) -> C:
        """What is sent of a vector `[n]`, which is only read.

        Args:
            memory: what the sender keeps, `[memory]`; changed in place.
        """

    @abstractmethod
    def restore(self, code: C) -> Float32:
        """The vector that a receiver has, `[n]`, in memory of its own."""

    @abstractmethod
    def encode(self, code: C) -> bytes:
        """The bytes that are sent."""

    @abstractmethod
    def decode(self, data: bytes) -> C:
        """What bytes were made of.

        Raises:
            ValueError: they are not those of this codec.
        """

    @abstractmethod
    def length(self, code: C) -> int:
        """Bytes of `encode`."""

    @property
    @abstractmethod
    def most(self) -> int:
        """Bytes of the longest message."""

    def finish(self, mean: Float64) -> Float64:
        """The mean of what receivers have, as the server takes it."""
        return mean


def check_length(data: bytes, expected: int) -> None:
    """Refuse bytes of another length.

    Raises:
        ValueError: says how many there are.
    """
    if len(data) != expected:
        raise ValueError(f"a message of {len(data)} bytes; expected {expected}")
