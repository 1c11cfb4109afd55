"""Small fleets, and timetables as plain event loops."""

from __future__ import annotations

from typing import Any

import numpy as np

from raysim.arrays import Int64
from raysim.config.systems import SystemsConfig
from raysim.rounds.plan import Turns
from raysim.systems import Fleet, Load, build_fleet

EDGE = SystemsConfig.model_validate(
    {
        "fleet": {
            "name": "tiers",
            "tiers": [
                {"share": 1 / 3, "speed": 1 / seconds, "latency": 2.5, "deviation": 4.0}
                for seconds in (100.0, 200.0, 400.0)
            ],
        }
    }
)
"""NVFlare's edge example: three kinds of devices, 5 s of communication."""


def uneven(population: int, sigma: float = 1.0, seed: int = 0, **systems: Any) -> Fleet:
    """A fleet of log-normal speeds around one step a second; `fleet` adds to its options."""
    options = {"name": "log_normal", "speed": 1.0, "sigma": sigma, **systems.pop("fleet", {})}
    return build_fleet(SystemsConfig.model_validate({"fleet": options, **systems}), seed, population)


def steps(population: int, count: int = 1) -> Load:
    """The same number of steps for all."""
    return Load(np.full(population, count, dtype=np.int64))


def plain_buffered(
    fleet: Fleet, load: Load, clients: list[int], *, buffer: int, in_flight: int, count: int
) -> list[tuple[float, list[tuple[int, int, int]]]]:
    """The first steps of a buffered server by a list that is searched for the next arrival: time, and (client, turn,
    version) of each update. `clients` are those of the dispatches, in their order."""
    turns, flights, made, version = Turns(), [], [], 0

    def send(when: float) -> None:
        number = len(sent)
        client = clients[number]
        sent.append(client)
        who: Int64 = np.array([client])
        seconds = fleet.seconds(who, fleet.computes(who, load.work[who], number), load.down, load.up)[0]
        flights.append((when + seconds, number, client, turns.next(client, version), version))

    sent: list[int] = []
    for _ in range(in_flight):
        send(0.0)
    arrived: list[tuple[int, int, int]] = []
    while len(made) < count:
        flight = min(flights)
        flights.remove(flight)
        arrived.append((flight[2], flight[3], flight[4]))
        if len(arrived) == buffer:
            version += 1
            made.append((float(flight[0]), sorted(arrived)))
            arrived = []
        send(flight[0])
    return made
