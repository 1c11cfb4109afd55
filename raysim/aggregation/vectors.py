"""What a client keeps from round to round, as an algorithm or a stage declares it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from raysim.arrays import Int64


@dataclass(frozen=True, slots=True)
class ClientVector:
    """A vector that every client keeps from round to round.

    Attributes:
        size: values; P or T, or whatever else.
        initial: what it holds before the client's first round: zeros, or of the model that is broadcast in that round
            as many values, or these columns.
    """

    name: str
    size: int
    initial: Literal["zero", "model"] | Int64 = "zero"
