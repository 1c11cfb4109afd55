"""A server step as a timetable plans it, in virtual time: who contributes, trained from which version of the model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from raysim.arrays import Float64, Int32, Int64

_NO_CLIENTS: Int64 = np.empty(0, dtype=np.int64)
_NO_SECONDS: Float64 = np.empty(0, dtype=np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """One server step: all that its bits depend on beside the model. Version v of the model is what step v makes.

    Attributes:
        step: from 1.
        at: virtual seconds, from the start of the run, when the server has what the step needs.
        clients: ids of those that contribute, `[m]`, ascending; one that contributes twice stands there twice, by
            ascending `turn`. None at all is a step without clients.
        base: version of the model that each starts from, `[m]`, from 0 (the first model) to `step - 1`.
        into: the sum that each adds to, `[m]`: the step that consumes it, in timetables with one sum a step.
        turn: keys what each draws, its batches among it, `[m]` (see `Turns`).
        late: ids of clients whose work since the step before was thrown away, `[n]`: they missed a deadline, dropped
            out, or came with a model that was too old.
        wasted: virtual seconds that each of them had spent, `[n]`.
        steps: local steps of each that contributes, `[m]`, where a deadline leaves time for fewer than its work has.
    """

    step: int
    at: float
    clients: Int64
    base: Int32
    into: Int32
    turn: Int64
    late: Int64 = field(default_factory=lambda: _NO_CLIENTS)
    wasted: Float64 = field(default_factory=lambda: _NO_SECONDS)
    steps: Int64 | None = None

    @property
    def staleness(self) -> Int32:
        """Steps that the server took between each one's version and this step, `[m]`; 0 in synchronous rounds."""
        return np.asarray(self.step - 1 - self.base, dtype=np.int32)

    @classmethod
    def synchronous(
        cls,
        step: int,
        at: float,
        clients: Int64,
        late: Int64 = _NO_CLIENTS,
        wasted: Float64 = _NO_SECONDS,
        steps: Int64 | None = None,
    ) -> Plan:
        """A step whose clients, ascending and each once, all start from the version before it."""
        m = len(clients)
        base, into = np.full(m, step - 1, dtype=np.int32), np.full(m, step, dtype=np.int32)
        return cls(step, at, clients, base, into, np.full(m, step, dtype=np.int64), late, wasted, steps)


class Timetable(Protocol):
    """Plans server steps from the seed and the fleet alone: without training, and without a clock on the wall.

    The same timetable yields the same plans each time. It does not end: who runs it takes as many steps as the run has.

    Attributes:
        cap: the largest staleness that a plan has; 0 in synchronous rounds.
    """

    cap: int

    def plans(self, after: int = 0) -> Iterator[Plan]:
        """The steps after this one, in their order."""
        ...


class Turns:
    """Numbers the dispatches of clients: a client's turns rise, so that it never draws twice what it has drawn.

    A client's turn is the round that it would train in if rounds were synchronous, or one more than its turn before,
    whatever is larger. So synchronous rounds, and asynchronous ones with one client in flight, draw alike.

    Example:
        >>> turns = Turns()
        >>> turns.next(7, base=3), turns.next(7, base=3), turns.next(7, base=9)
        (4, 5, 10)
    """

    def __init__(self) -> None:
        self._last: dict[int, int] = {}

    def next(self, client: int, base: int) -> int:
        """The turn of a client that is dispatched with this version of the model."""
        turn = max(base, self._last.get(client, 0)) + 1
        self._last[client] = turn
        return turn
