"""How many actors fit where: pure arithmetic on what the nodes have, before anything is started."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor

from raysim.config.running import ExecutionConfig
from raysim.errors import PlacementError

ACTOR_BYTES = 180 * 1024 * 1024
"""Memory of an actor beyond what it shares: a Python process with torch, without model and data."""

_EPSILON = 1e-9


@dataclass(frozen=True, slots=True)
class Node:
    """A machine: its id, CPU cores, GPUs, and bytes of memory that actors may use."""

    id: str
    cpus: float
    gpus: float
    memory: int


@dataclass(frozen=True, slots=True)
class Placement:
    """Where actors go.

    Attributes:
        nodes: node of each actor, by actor index.
        num_cpus: CPU cores of an actor.
        num_gpus: GPUs of an actor.
        slots: actors that would fit on each node, by node id.
    """

    nodes: tuple[str, ...]
    num_cpus: float
    num_gpus: float
    slots: dict[str, int]

    @property
    def actors(self) -> int:
        """Number of actors."""
        return len(self.nodes)


def slots_on(node: Node, num_cpus: float, num_gpus: float) -> int:
    """Actors of this size that fit on a node; on each GPU only whole ones count (three of 0.3, not 3.33)."""
    by_cpu = floor(node.cpus / num_cpus + _EPSILON)
    if num_gpus == 0:
        return by_cpu
    if num_gpus <= 1:
        return min(by_cpu, floor(node.gpus) * floor(1 / num_gpus + _EPSILON))
    return min(by_cpu, floor(node.gpus / num_gpus + _EPSILON))


def place(
    nodes: Sequence[Node], execution: ExecutionConfig, *, population: int, cohort: int, actor_bytes: int = ACTOR_BYTES
) -> Placement:
    """Decide how many actors there are and on which node each lives.

    `actors: auto` fills the nodes, but never with more actors than a round has clients. `num_cpus: auto` is one core,
    or an equal share of the cores where more actors are asked for.

    Args:
        nodes: the machines, the driver's own first.
        execution: the configuration's `execution` section.
        population: clients in all, for `clients_per_actor`.
        cohort: clients of a round.
        actor_bytes: estimated memory of one actor.

    Raises:
        PlacementError: the actors can never be placed; says what is short and what to change.
    """
    gpus = execution.num_gpus
    if gpus > 1 and gpus != int(gpus):
        raise PlacementError(f"execution.num_gpus: {gpus:g} cannot be placed; above 1 it must be a whole number")
    if gpus > 0 and not any(node.gpus >= min(gpus, 1) for node in nodes):
        raise PlacementError(f"execution.num_gpus: an actor wants {gpus:g} GPUs, but no node has a GPU; set it to 0")
    wanted = _wanted(execution, population)
    cpus = _cpus(nodes, execution, wanted)
    slots = {node.id: slots_on(node, cpus, gpus) for node in nodes}
    if wanted is None:  # nobody asked for a number: no more than the memory holds
        slots = {node.id: min(slots[node.id], max(1, node.memory // max(1, actor_bytes))) for node in nodes}
    total = sum(slots.values())
    if total == 0:
        raise PlacementError(
            f"an actor wants {cpus:g} CPUs and {gpus:g} GPUs, but no node has that ({_offer(nodes)}); "
            "lower execution.num_cpus or execution.num_gpus"
        )
    count = min(total, cohort) if wanted is None else wanted
    if count > total:
        raise PlacementError(
            f"{count} actors of {cpus:g} CPUs and {gpus:g} GPUs do not fit: there is room for {total} "
            f"({_offer(nodes)}); lower execution.actors, num_cpus or num_gpus, or raise clients_per_actor"
        )
    placed = _spread(slots, count)
    for node in nodes:
        here = placed.count(node.id)
        if here * actor_bytes > node.memory:
            raise PlacementError(
                f"{here} actors of about {actor_bytes >> 20} MiB need more than the {node.memory >> 20} MiB that node "
                f"{node.id} has; lower execution.actors, or raise clients_per_actor"
            )
    return Placement(tuple(placed), cpus, gpus, slots)


def _wanted(execution: ExecutionConfig, population: int) -> int | None:
    if execution.clients_per_actor is not None:
        return ceil(population / execution.clients_per_actor)
    return None if execution.actors == "auto" else execution.actors


def _cpus(nodes: Sequence[Node], execution: ExecutionConfig, wanted: int | None) -> float:
    if execution.num_cpus != "auto":
        return execution.num_cpus
    cores = sum(node.cpus for node in nodes)
    if wanted is None or wanted <= cores:
        return 1.0
    # Ray counts CPUs in ten-thousandths. A share that fits the total need not fit node by node: shrink until it does.
    share = floor(1e4 * cores / wanted) / 1e4
    while share > 1e-4 and sum(slots_on(node, share, 0) for node in nodes) < wanted:
        share = floor(0.9e4 * share) / 1e4
    return max(share, 1e-4)


def _spread(slots: dict[str, int], count: int) -> list[str]:
    """Fill nodes evenly: one actor a node in turn, skipping full ones."""
    placed: list[str] = []
    used = dict.fromkeys(slots, 0)
    while len(placed) < count:
        for node, room in slots.items():
            if used[node] < room and len(placed) < count:
                used[node] += 1
                placed.append(node)
    return placed


def _offer(nodes: Sequence[Node]) -> str:
    cpus, gpus = sum(node.cpus for node in nodes), sum(node.gpus for node in nodes)
    return f"{len(nodes)} node{'s' if len(nodes) > 1 else ''} with {cpus:g} CPUs and {gpus:g} GPUs in all"
