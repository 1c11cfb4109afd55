"""A timetable of buffered asynchronous steps for tests, with no devices: trips take keyed times."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

import numpy as np

from raysim import keyed
from raysim.rounds.plan import Plan, Turns


class Buffered:
    """Steps of `buffer` updates, with `in_flight` clients out at a time (FedBuff); keyed by the seed alone."""

    def __init__(self, population: int, buffer: int, in_flight: int, cap: int, seed: int = 0) -> None:
        self.population, self.buffer, self.in_flight, self.cap, self.seed = population, buffer, in_flight, cap, seed

    def plans(self, after: int = 0) -> Iterator[Plan]:
        """The steps after this one."""
        turns, out, dispatched, step, now = Turns(), [], 0, 0, 0.0
        while True:
            arrived: list[tuple[int, int, int]] = []
            late: list[int] = []
            while len(arrived) < self.buffer:
                while len(out) < self.in_flight:
                    client, seconds = self._trip(dispatched)
                    heapq.heappush(out, (now + seconds, dispatched, client, step, turns.next(client, base=step)))
                    dispatched += 1
                now, _, client, base, turn = heapq.heappop(out)
                if step - base > self.cap:
                    late.append(client)
                else:
                    arrived.append((client, turn, base))
            step += 1
            if step > after:
                columns = np.array(sorted(arrived))
                base, into = columns[:, 2].astype(np.int32), np.full(self.buffer, step, np.int32)
                lost = np.array(late, dtype=np.int64)
                yield Plan(step, now, columns[:, 0], base, into, columns[:, 1], lost, np.ones(len(late)))

    def _trip(self, number: int) -> tuple[int, float]:
        client = int(keyed.integer(self.seed, keyed.Purpose.COHORT, number) % self.population)
        speed = keyed.uniform(self.seed, keyed.Purpose.CANDIDATES, client)
        return client, float(
            np.exp(2 * speed) * (1 + keyed.uniform(self.seed, keyed.Purpose.CANDIDATES, client, number))
        )
