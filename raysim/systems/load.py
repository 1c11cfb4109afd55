"""What a trip asks of a device: work and bytes."""

from __future__ import annotations

from dataclasses import dataclass

from raysim.arrays import Int64


@dataclass(frozen=True, slots=True, eq=False)
class Load:
    """The work of every client's trip, by client id.

    Attributes:
        work: what a trip computes, in the unit of the fleet's speeds (local steps or samples), int64 `[population]`.
        down: bytes that a client receives.
        up: bytes that it sends.
        steps: local steps of a trip, `[population]`, where the unit is another; by default `work`.
    """

    work: Int64
    down: int = 0
    up: int = 0
    steps: Int64 | None = None

    @property
    def population(self) -> int:
        """Number of clients."""
        return len(self.work)

    def steps_of(self, clients: Int64) -> Int64:
        """Local steps of these clients' trips, `[n]`."""
        found: Int64 = (self.work if self.steps is None else self.steps)[clients]
        return found
