"""Partial sums on their way to the server: added up on their own node first, then across nodes with bounded fan-in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from raysim.cluster.actors import NodeReducer
from raysim.cluster.runtime import Runtime


@dataclass(frozen=True, slots=True)
class NodeSum:
    """A reference to a partial sum, and the node whose object store holds it."""

    total: Any
    node: str


@dataclass(frozen=True, slots=True)
class Hop:
    """Sums that are added up in one place.

    Attributes:
        node: where.
        sources: the node that each of them comes from.
        facts: a reference to the life of the reducer that did it, and the bytes of each sum (`NodeReducer.combine`).
    """

    node: str
    sources: tuple[str, ...]
    facts: Any


@dataclass(frozen=True, slots=True)
class Reduction:
    """What is left for the aggregator to add, and the hops before that."""

    sums: tuple[NodeSum, ...]
    hops: tuple[Hop, ...]


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes of partial sums: read from shared memory on their own node, and fetched from another node."""

    within: int = 0
    across: int = 0

    @classmethod
    def into(cls, node: str, sources: Sequence[str], sizes: Sequence[int]) -> Traffic:
        """Of sums of these sizes that come from these nodes to one."""
        within = sum(size for source, size in zip(sources, sizes, strict=True) if source == node)
        return cls(within, sum(sizes) - within)

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(self.within + other.within, self.across + other.across)


class ReductionTree:
    """One resident reducer on every node with clients but the driver's, where the aggregator itself adds up.

    Within a node sums are read from shared memory without a copy, so a flat sum is the fastest; between nodes each
    sends one sum, and at most `fan_in` sums meet in one place.
    """

    def __init__(self, runtime: Runtime, nodes: Sequence[str], fan_in: int) -> None:
        self._runtime, self._fan_in = runtime, fan_in
        self._reducers: dict[str, Any] = {}
        self._follow(nodes)

    def reduce(self, sums: Sequence[NodeSum]) -> Reduction:
        """References for the aggregator to add: those of its own node, and at most `fan_in` from elsewhere."""
        self._follow([one.node for one in sums])
        home = [one for one in sums if one.node not in self._reducers]
        hops: list[Hop] = []
        away = [
            self._combine(node, [one for one in sums if one.node == node], hops)
            for node in self._reducers
            if any(one.node == node for one in sums)
        ]
        while len(away) > self._fan_in:
            groups = [away[i : i + self._fan_in] for i in range(0, len(away), self._fan_in)]
            away = [self._combine(group[0].node, group, hops) for group in groups]
        return Reduction((*home, *away), tuple(hops))

    def restart(self) -> None:
        """Have every reducer start again, whatever it does; Ray makes its calls again."""
        for reducer in self._reducers.values():
            self._runtime.ray.kill(reducer, no_restart=False)

    def close(self) -> None:
        """Stop the reducers."""
        for reducer in self._reducers.values():
            self._runtime.ray.kill(reducer)

    def _follow(self, nodes: Sequence[str]) -> None:
        """Have a reducer on each of these nodes."""
        for node in dict.fromkeys(nodes):
            if node != self._runtime.home and node not in self._reducers:
                # No CPU: client actors may hold them all. Its method is pure, so Ray may simply do it again.
                options = self._runtime.ray.remote(NodeReducer).options(
                    num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=self._runtime.pinned(node)
                )
                self._reducers[node] = options.remote()

    def _combine(self, node: str, sums: Sequence[NodeSum], hops: list[Hop]) -> NodeSum:
        if len(sums) == 1:
            return sums[0]
        combine, sources = self._reducers[node].combine.options(num_returns=2), tuple(one.node for one in sums)
        total, facts = combine.remote(*(one.total for one in sums))
        hops.append(Hop(node, sources, facts))
        return NodeSum(total, node)
