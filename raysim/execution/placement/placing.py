"""How many actors fit where: pure arithmetic on what the nodes have, before anything is started."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor

from raysim.arrays import Int64
from raysim.config.running import ExecutionConfig
from raysim.errors import PlacementError
from raysim.execution.placement.demand import Demand, demands, holds
from raysim.execution.placement.slots import Node, Occupancy, Share, slots_on

ACTOR_BYTES = 180 * 1024 * 1024
"""Memory of an actor beyond what it shares: a Python process with torch, without model and data."""


@dataclass(frozen=True, slots=True)
class Seat:
    """A place for an actor: on which node, and for the clients of which class."""

    node: str
    group: int = 0


@dataclass(frozen=True, slots=True)
class Placement:
    """Where actors go.

    Attributes:
        seats: of each actor, by actor index; in the order in which they are to be started, largest shares first.
        shares: what an actor of each class has, by class index; 0 is the default.
        slots: actors of the default class that each node would hold if it were empty, by node id.
    """

    seats: tuple[Seat, ...]
    shares: tuple[Share, ...]
    slots: dict[str, int]

    @property
    def actors(self) -> int:
        """Number of actors."""
        return len(self.seats)

    @property
    def nodes(self) -> tuple[str, ...]:
        """Node of each actor, by actor index."""
        return tuple(seat.node for seat in self.seats)

    @property
    def num_cpus(self) -> float:
        """CPU cores of an actor of the default class."""
        return self.shares[0].num_cpus

    @property
    def num_gpus(self) -> float:
        """GPUs of an actor of the default class."""
        return self.shares[0].num_gpus


def place(
    nodes: Sequence[Node],
    execution: ExecutionConfig,
    *,
    population: int,
    cohort: int,
    actor_bytes: int = ACTOR_BYTES,
    gpu_bytes: int = 0,
    census: tuple[Int64, Int64] | None = None,
) -> Placement:
    """Decide how many actors there are and on which node each lives; see `Placer` and `demands`."""
    wanted = demands(execution, population=population, cohort=cohort, census=census)
    return Placer(nodes, wanted, cohort=cohort, actor_bytes=actor_bytes, gpu_bytes=gpu_bytes).place(nodes)


class Placer:
    """Places what is asked for, at the start, and again when nodes come and go.

    `actors: auto` fills the nodes, but never with more actors than a round has clients, nor with more than the memory
    holds; several such classes share the room by their work. `num_cpus: auto` is one core, or an equal share of the
    cores where more actors are asked for. Nodes are filled evenly, one actor a node in turn.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        wanted: Sequence[Demand],
        *,
        cohort: int,
        actor_bytes: int,
        gpu_bytes: int = 0,
        node_bytes: int = 0,
    ) -> None:
        """Args:
            nodes: the machines at the start, the driver's own first.
            wanted: by each class of clients.
            cohort: clients of a round.
            actor_bytes: estimated memory of one actor.
            gpu_bytes: estimated memory of one actor on its GPU.
            node_bytes: memory that all actors of a node share.

        Raises:
            PlacementError: a class wants what no node can give.
        """
        for demand in wanted:
            if demand.most:
                demand.check(nodes, gpu_bytes)
        self._wanted, self._cohort, self._actor_bytes, self._gpu_bytes = wanted, cohort, actor_bytes, gpu_bytes
        self._node_bytes = node_bytes
        cpus = _auto_cpus(nodes, [demand for demand in wanted if demand.most])
        self.shares = tuple(Share(cpus if one.num_cpus == "auto" else one.num_cpus, one.num_gpus) for one in wanted)
        used = [group for group, demand in enumerate(wanted) if demand.most]
        self._order = sorted(used, key=lambda group: self.shares[group].size, reverse=True)

    def place(self, nodes: Sequence[Node]) -> Placement:
        """Seats for all actors on empty nodes, the driver's own first.

        Raises:
            PlacementError: the actors can never be placed; says what is short and what to change.
        """
        filling = self._filling(nodes)
        for group in sorted(self._order, key=lambda group: self._wanted[group].actors is None):
            demand = self._wanted[group]
            for found in range(demand.actors or 1):
                if not filling.add(group, self.shares[group], anyhow=True):
                    raise demand.no_room(self.shares[group], found, nodes)
        self._share_out(filling)
        filling.check_memory()
        seats = [seat for group in self._order for seat in filling.seats if seat.group == group]
        slots = {node.id: slots_on(node, self.shares[0]) for node in nodes}
        if self._wanted[0].actors is None:  # no number was asked for: no more than the memory holds
            for node in nodes:
                slots[node.id] = min(
                    slots[node.id], max(1, (node.memory - self._node_bytes) // max(1, self._actor_bytes))
                )
        return Placement(tuple(seats), self.shares, slots)

    def refill(self, nodes: Sequence[Node], living: Sequence[Seat]) -> list[Seat]:
        """Seats for the actors that are missing beside those that live on these nodes, as far as there is room."""
        filling = self._filling(nodes)
        filling.settle(living, self.shares)
        for group in self._order:
            missing = (self._wanted[group].actors or 0) - filling.count[group]
            for _ in range(missing):
                if not filling.add(group, self.shares[group]):
                    break
        self._share_out(filling)
        return filling.seats

    def _filling(self, nodes: Sequence[Node]) -> _Filling:
        return _Filling(nodes, len(self._wanted), self._actor_bytes, self._gpu_bytes, self._node_bytes)

    def _share_out(self, filling: _Filling) -> None:
        """Actors of the classes that leave their number open: the next one where the work of an actor is most."""
        growing = [group for group in self._order if self._wanted[group].actors is None]
        while growing and sum(filling.count) < self._cohort:
            group = max(growing, key=lambda group: self._wanted[group].work / (filling.count[group] + 1e-9))
            full = filling.count[group] >= self._wanted[group].most
            if full or not filling.add(group, self.shares[group]):
                growing.remove(group)


class _Filling:
    """Nodes while they are filled.

    Attributes:
        count: actors of each class.
        seats: those that were added, in order.
    """

    def __init__(self, nodes: Sequence[Node], classes: int, actor_bytes: int, gpu_bytes: int, node_bytes: int) -> None:
        self._node_bytes = node_bytes
        self._rooms = {node.id: Occupancy(node) for node in nodes}
        self._actor_bytes, self._gpu_bytes = actor_bytes, gpu_bytes
        self._here = [dict.fromkeys(self._rooms, 0) for _ in range(classes)]
        self._full: set[tuple[str, Share]] = set()
        self.count = [0] * classes
        self.seats: list[Seat] = []

    def settle(self, living: Sequence[Seat], shares: Sequence[Share]) -> None:
        """These have been there all along."""
        for seat in living:
            self._rooms[seat.node].settled.append(shares[seat.group])
            self._here[seat.group][seat.node] += 1
            self.count[seat.group] += 1

    def add(self, group: int, share: Share, *, anyhow: bool = False) -> bool:
        """One more actor, on the node with the fewest of its class; whether there was room.

        Args:
            anyhow: if need be where the memory does not hold it, for `check_memory` to say so.
        """
        evenly = sorted(self._rooms.values(), key=lambda room: self._here[group][room.node.id])
        fitting = (room for room in evenly if self._fits(room, share))
        crowded = None
        for room in fitting:
            if (room.actors + 1) * self._actor_bytes + self._node_bytes <= room.node.memory:
                break
            crowded = crowded or room
        else:
            if crowded is None or not anyhow:
                return False
            room = crowded
        room.planned.append(share)
        self._here[group][room.node.id] += 1
        self.count[group] += 1
        self.seats.append(Seat(room.node.id, group))
        return True

    def check_memory(self) -> None:
        """Raises:
        PlacementError: a node's memory does not hold the actors that are on it.
        """
        for room in self._rooms.values():
            if room.actors and room.actors * self._actor_bytes + self._node_bytes > room.node.memory:
                shared = f" and a frozen base of {self._node_bytes >> 20} MiB" if self._node_bytes else ""
                raise PlacementError(
                    f"{room.actors} actors of about {self._actor_bytes >> 20} MiB{shared} need more than the "
                    f"{room.node.memory >> 20} MiB that node {room.node.id} has; lower execution.actors, or raise "
                    "clients_per_actor"
                )

    def _fits(self, room: Occupancy, share: Share) -> bool:
        """Cores and GPUs; nodes only fill up, so one that had no room is not asked again."""
        if (room.node.id, share) in self._full:
            return False
        memory = room.node.gpu_memory
        too_small = share.num_gpus > 0 and memory is not None and not holds(memory, share.num_gpus, self._gpu_bytes)
        if too_small or not room.fits(share):
            self._full.add((room.node.id, share))
            return False
        return True


def _auto_cpus(nodes: Sequence[Node], wanted: Sequence[Demand]) -> float:
    """Cores of an actor where that is `auto`."""
    cores = sum(node.cpus for node in nodes)
    cores -= sum(one.num_cpus * (one.actors or 1) for one in wanted if one.num_cpus != "auto")
    asked = sum(one.actors or (len(wanted) > 1) for one in wanted if one.num_cpus == "auto")
    if asked <= cores or cores <= 0:
        return 1.0
    # Ray counts CPUs in ten-thousandths. A share that fits the total need not fit node by node: shrink until it does.
    share = floor(1e4 * cores / asked) / 1e4
    while share > 1e-4 and sum(slots_on(node, Share(share, 0)) for node in nodes) < asked:
        share = floor(0.9e4 * share) / 1e4
    return max(share, 1e-4)
