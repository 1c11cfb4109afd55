"""What of the nodes is taken, as Ray gives it out: cores and memory by the amount, GPUs one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import floor

_EPSILON = 1e-9


@dataclass(frozen=True, slots=True)
class Node:
    """A machine that actors can live on.

    Attributes:
        id: that tells it from others: Ray's, or the machine's name.
        cpus: CPU cores.
        gpus: GPUs.
        memory: bytes that actors may use.
        gpu_memory: bytes of memory of each GPU; None where it is not known.
    """

    id: str
    cpus: float
    gpus: float
    memory: int
    gpu_memory: int | None = None


@dataclass(frozen=True, slots=True)
class Share:
    """What an actor has of its node.

    Attributes:
        num_cpus: CPU cores.
        num_gpus: GPUs: a fraction of one, or several whole ones.
    """

    num_cpus: float
    num_gpus: float

    @property
    def size(self) -> tuple[float, float]:
        """Sorts by what is harder to place."""
        return self.num_gpus, self.num_cpus

    def covers(self, other: Share) -> bool:
        """Whether an actor with this share can do what one with the other can."""
        return self.num_gpus >= other.num_gpus and self.num_cpus >= other.num_cpus


@dataclass(slots=True)
class Occupancy:
    """A node and the actors on it.

    Ray gives a fraction to the GPU that has least left but enough. So whether an actor fits depends on the order in
    which those before it came: here the largest first, among those that have not been there all along.

    Attributes:
        settled: shares of the actors that were there before.
        planned: shares of those to come.
    """

    node: Node
    settled: list[Share] = field(default_factory=list)
    planned: list[Share] = field(default_factory=list)

    @property
    def actors(self) -> int:
        """How many there are."""
        return len(self.settled) + len(self.planned)

    def fits(self, share: Share) -> bool:
        """Whether one more actor gets its cores and GPUs."""
        taken = sum(one.num_cpus for one in (*self.settled, *self.planned))
        if taken + share.num_cpus > self.node.cpus + _EPSILON:
            return False
        if share.num_gpus == 0:
            return True
        return fits_gpus(self.node.gpus, [*_largest_first(self.settled), *_largest_first([*self.planned, share])])


def slots_on(node: Node, share: Share) -> int:
    """Actors of this size that fit on an empty node; on each GPU only whole ones count (three of 0.3, not 3.33)."""
    by_cpu = floor(node.cpus / share.num_cpus + _EPSILON)
    if share.num_gpus == 0:
        return by_cpu
    if share.num_gpus <= 1:
        return min(by_cpu, floor(node.gpus) * floor(1 / share.num_gpus + _EPSILON))
    return min(by_cpu, floor(node.gpus / share.num_gpus + _EPSILON))


def fits_gpus(gpus: float, shares: Sequence[Share]) -> bool:
    """Whether these actors, one after the other, get their GPUs of a node that has this many."""
    free = [1.0] * floor(gpus)
    for share in shares:
        wanted = share.num_gpus
        if wanted > 1:
            whole = [i for i, left in enumerate(free) if left > 1 - _EPSILON]
            if len(whole) < wanted:
                return False
            for i in whole[: int(wanted)]:
                free[i] = 0.0
        elif wanted > 0:
            enough = [i for i, left in enumerate(free) if left > wanted - _EPSILON]
            if not enough:
                return False
            free[min(enough, key=free.__getitem__)] -= wanted
    return True


def _largest_first(shares: Sequence[Share]) -> list[Share]:
    """The order in which actors are started."""
    return sorted(shares, key=lambda share: share.size, reverse=True)
