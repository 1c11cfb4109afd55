"""What a trip asks of a device: work and bytes."""

from __future__ import annotations

from dataclasses import dataclass

from raysim.arrays import Int64


@dataclass(frozen=True, slots=True, eq=False)
class Load:
    """The work of every client's trip, by client id.

    Attributes:
        work: what a trip computes, in the unit of the fleet's speeds (local steps or samples), int64 `[population]`.
        down: bytes that a client receives, the same for all or `[population]`.
        up: bytes that it sends, likewise.
        steps: local steps of a trip, `[population]`, where the unit is another; by default `work`.
    """

    work: Int64
    down: int | Int64 = 0
    up: int | Int64 = 0
    steps: Int64 | None = None

    @property
    def population(self) -> int:
        """Number of clients."""
        return len(self.work)

    def down_of(self, clients: Int64) -> int | Int64:
        """Bytes that these clients receive, the same for all or `[n]`."""
        return self.down if isinstance(self.down, int) else self.down[clients]

    def up_of(self, clients: Int64) -> int | Int64:
        """Bytes that these clients send, the same for all or `[n]`."""
        return self.up if isinstance(self.up, int) else self.up[clients]

    def steps_of(self, clients: Int64) -> Int64:
        """Local steps of these clients' trips, `[n]`."""
        found: Int64 = (self.work if self.steps is None else self.steps)[clients]
        return found
