"""SHA-256 of what the server is after a round: what a run's chain is made of (`raysim.tracking.chain`)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from raysim.arrays import Array


@dataclass(frozen=True, slots=True)
class ServerDigest:
    """The server's bits after a round, as SHA-256 sums in hexadecimal.

    Attributes:
        model: of the model's float32 values `[P]`, little-endian.
        state: of the vectors of the server's state, by name.
    """

    model: str
    state: str

    @classmethod
    def of(cls, state: Mapping[str, Array], model: Array) -> ServerDigest:
        """Hash a server. The interpreter's lock is released for the long vectors."""
        kept = hashlib.sha256()
        for name in sorted(state):
            vector = _plain(state[name])
            kept.update(f"{name} {vector.dtype.str} {vector.shape}\n".encode())
            kept.update(vector.data)
        return cls(hashlib.sha256(_plain(model).data).hexdigest(), kept.hexdigest())


class Digesting(Protocol):
    """A digest that is known, or is being made elsewhere."""

    def result(self) -> ServerDigest:
        """The digest; waits for it."""
        ...


@dataclass(frozen=True, slots=True)
class Known:
    """A digest that is there."""

    digest: ServerDigest

    def result(self) -> ServerDigest:
        """The digest."""
        return self.digest


def _plain(vector: Array) -> Array:
    """The values one after the other, the low byte first."""
    found = np.ascontiguousarray(vector)
    return found.astype(found.dtype.newbyteorder("<"), copy=False)
