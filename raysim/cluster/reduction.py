"""Partial sums on their way to the server: added up on their own node first, then across nodes with bounded fan-in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raysim.cluster.actors import NodeReducer
from raysim.cluster.runtime import Runtime


@dataclass(frozen=True, slots=True)
class NodeSum:
    """A reference to a partial sum, and the node whose object store holds it."""

    reference: Any
    node: str


@dataclass(frozen=True, slots=True)
class Reduction:
    """What is left for the aggregator to add, and in which life of each node's reducer the rest was added up, both as
    references."""

    sums: tuple[Any, ...]
    lives: Mapping[str, list[Any]]


class ReductionTree:
    """One resident reducer on every node with clients but the driver's, where the aggregator itself adds up.

    Within a node sums are read from shared memory without a copy, so a flat sum is the fastest; between nodes each
    sends one object, and at most `fan_in` objects meet in one place.
    """

    def __init__(self, runtime: Runtime, nodes: Sequence[str], fan_in: int) -> None:
        self._runtime, self._fan_in = runtime, fan_in
        reducer = runtime.ray.remote(NodeReducer)
        # No CPU: client actors may hold them all. Its method is pure, so Ray may simply do it again.
        self._reducers = {
            node: reducer.options(
                num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=runtime.pinned(node)
            ).remote()
            for node in dict.fromkeys(nodes)
            if node != runtime.home
        }

    def reduce(self, sums: Sequence[NodeSum]) -> Reduction:
        """References for the aggregator to add: those of its own node, and at most `fan_in` from elsewhere."""
        home = [one.reference for one in sums if one.node not in self._reducers]
        lives: dict[str, list[Any]] = {}
        away = [
            self._combine(node, [one.reference for one in sums if one.node == node], lives)
            for node in self._reducers
            if any(one.node == node for one in sums)
        ]
        while len(away) > self._fan_in:
            groups = [away[i : i + self._fan_in] for i in range(0, len(away), self._fan_in)]
            away = [self._combine(group[0].node, [one.reference for one in group], lives) for group in groups]
        return Reduction(tuple(home + [one.reference for one in away]), lives)

    def restart(self) -> None:
        """Have every reducer start again, whatever it does; Ray makes its calls again."""
        for reducer in self._reducers.values():
            self._runtime.ray.kill(reducer, no_restart=False)

    def close(self) -> None:
        """Stop the reducers."""
        for reducer in self._reducers.values():
            self._runtime.ray.kill(reducer)

    def _combine(self, node: str, references: list[Any], lives: dict[str, list[Any]]) -> NodeSum:
        if len(references) == 1:
            return NodeSum(references[0], node)
        total, life = self._reducers[node].combine.options(num_returns=2).remote(*references)
        lives.setdefault(node, []).append(life)
        return NodeSum(total, node)
