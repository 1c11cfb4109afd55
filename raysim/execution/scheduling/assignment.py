"""A cohort given out class by class: each class's clients to the workers that are there for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from raysim.arrays import Float64, Int64
from raysim.execution.scheduling.schedule import StateLocations, schedule


@dataclass(frozen=True, slots=True)
class EligibleWorkers:
    """The workers for the clients of one class.

    Attributes:
        workers: their indices, `[n]`.
        slowness: what each takes for a second of estimated work, `[n]`.
    """

    workers: tuple[int, ...]
    slowness: Float64


@dataclass(frozen=True, slots=True)
class Assignment:
    """Positions of the cohort, by who gets them.

    Attributes:
        first: to each worker at once.
        rest: class and positions of each piece, for workers that become idle, in this order.
        imbalance: busiest worker's estimated share over the mean share, before the rest evens it out; the largest of
            the classes. 1 is perfect.
    """

    first: Mapping[int, Int64]
    rest: tuple[tuple[int, Int64], ...]
    imbalance: float


def assign(
    cost: Float64, group: Int64, eligible: Mapping[int, EligibleWorkers], locations: StateLocations | None = None
) -> Assignment:
    """Give out clients with these estimated seconds and of these classes, `[m]` each.

    Args:
        eligible: for every class that is in `group`, in the order in which pieces wait. Classes may share one.
        locations: where their rows lie, if they have any, and where all workers are, by their indices.
    """
    first: dict[int, Int64] = {}
    rest: list[tuple[int, Int64]] = []
    imbalance = 1.0
    there = set(np.unique(group).tolist())
    for one, crew in eligible.items():
        if one not in there:
            continue
        members = np.flatnonzero(group == one)
        near = None if locations is None else locations.of(members, crew.workers)
        plan = schedule(cost[members], len(crew.workers), crew.slowness, near)
        for worker, part in zip(crew.workers, plan.first, strict=True):
            if worker in first:
                rest.append((one, members[part]))
            else:
                first[worker] = members[part]
        rest += [(one, members[part]) for part in plan.rest]
        imbalance = max(imbalance, plan.imbalance)
    return Assignment(
        {worker: part for worker, part in first.items() if len(part)},
        tuple((one, part) for one, part in rest if len(part)),
        imbalance,
    )
