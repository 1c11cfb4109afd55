"""What each class of clients asks of the machines, and what can be said against it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Literal

from raysim.arrays import Int64
from raysim.config.running import ExecutionConfig
from raysim.errors import PlacementError
from raysim.execution.placement.slots import Node, Share


@dataclass(frozen=True, slots=True)
class Demand:
    """The actors that one class of clients asks for.

    Attributes:
        key: the section of the configuration that asks, for errors.
        actors: exactly this many; None is as many as are worth having.
        most: actors worth having: a round has no more clients of the class; 0 where the class is empty.
        num_cpus, num_gpus: of an actor.
        work: local steps of all its clients.
    """

    key: str
    actors: int | None
    most: int
    num_cpus: float | Literal["auto"]
    num_gpus: float
    work: float = 1.0

    def check(self, nodes: Sequence[Node], gpu_bytes: int) -> None:
        """Refuse what no node can give, whatever the number.

        Args:
            gpu_bytes: what an actor needs of its GPU's memory.

        Raises:
            PlacementError: says what is short and what to change.
        """
        gpus = self.num_gpus
        if gpus == 0:
            return
        if gpus > 1 and gpus != int(gpus):
            raise PlacementError(f"{self.key}.num_gpus: {gpus:g} cannot be placed; above 1 it must be a whole number")
        if not any(node.gpus >= min(gpus, 1) for node in nodes):
            raise PlacementError(
                f"{self.key}.num_gpus: an actor wants {gpus:g} GPUs, but no node has a GPU; set it to 0"
            )
        known = [node.gpu_memory for node in nodes if node.gpus >= 1]
        if all(memory is not None and not holds(memory, gpus, gpu_bytes) for memory in known):
            largest = max(memory for memory in known if memory is not None)
            enough = ceil(100 * gpu_bytes / largest) / 100
            remedy = f"set it to at least {enough:g}" if enough <= 1 else "lower training.rows or shard_memory"
            raise PlacementError(
                f"{self.key}.num_gpus: an actor needs about {gpu_bytes >> 20} MiB of its GPU, but {min(gpus, 1):g} of "
                f"the largest is {int(min(gpus, 1) * largest) >> 20} MiB; {remedy}"
            )

    def no_room(self, share: Share, room: int, nodes: Sequence[Node]) -> PlacementError:
        """The error that only `room` of its actors fit."""
        who = "" if self.key == "execution" else f"{self.key}: "
        size = f"{share.num_cpus:g} CPUs and {share.num_gpus:g} GPUs"
        if room == 0:
            return PlacementError(
                f"{who}an actor wants {size}, but no node has that{' left' if who else ''} ({_offer(nodes)}); "
                f"lower {self.key}.num_cpus or {self.key}.num_gpus"
            )
        remedy = ", or raise clients_per_actor" if not who else ""
        return PlacementError(
            f"{who}{self.actors} actors of {size} do not fit: there is room for {room} ({_offer(nodes)}); "
            f"lower {self.key}.actors, num_cpus or num_gpus{remedy}"
        )


def demands(
    execution: ExecutionConfig, *, population: int, cohort: int, census: tuple[Int64, Int64] | None = None
) -> tuple[Demand, ...]:
    """What the classes of a configuration ask for, the default first.

    Args:
        census: clients and local steps of each class; None where there is only the default.
    """
    clients, work = ([population], [1]) if census is None else (census[0].tolist(), census[1].tolist())
    wanted: int | None = None if execution.actors == "auto" else execution.actors
    if execution.clients_per_actor is not None:
        wanted = ceil(population / execution.clients_per_actor)
    found = [
        Demand("execution", wanted, min(cohort, clients[0]), execution.num_cpus, execution.num_gpus, float(work[0]))
    ]
    for index, (name, one) in enumerate(execution.classes.items(), start=1):
        actors = None if one.actors == "auto" else one.actors
        most = min(cohort, clients[index])
        key = f"execution.classes.{name}"
        found.append(Demand(key, actors, most, one.num_cpus, one.num_gpus, float(work[index])))
    return tuple(found)


def holds(gpu_memory: int, num_gpus: float, gpu_bytes: int) -> bool:
    """Whether an actor's share of a GPU of this size has room for it; with several GPUs it computes on the first."""
    return min(num_gpus, 1.0) * gpu_memory >= gpu_bytes


def _offer(nodes: Sequence[Node]) -> str:
    cpus, gpus = sum(node.cpus for node in nodes), sum(node.gpus for node in nodes)
    return f"{len(nodes)} node{'s' if len(nodes) > 1 else ''} with {cpus:g} CPUs and {gpus:g} GPUs in all"
