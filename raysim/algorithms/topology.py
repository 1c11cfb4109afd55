"""Graphs of decentralised learning, and the weights of their edges.

A graph says from whom each node receives in a round, by ascending number and without itself. D-PSGD needs weights that
sum to 1 over what a node receives and over what it sends, so that the mean of all models stays (Lian et al. 2017,
assumption 1); push-sum those that sum to 1 over what a node sends (Assran et al. 2019, section 2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from raysim import keyed
from raysim.arrays import Bools, Float64, Int64
from raysim.config.gossip import (
    ErdosRenyiGraphConfig,
    GraphConfig,
    OnePeerGraphConfig,
    RingGraphConfig,
    TorusGraphConfig,
    torus_rows,
)

Mixing = Literal["metropolis", "uniform"]


@dataclass(frozen=True, slots=True, eq=False)
class Edges:
    """The edges of a round.

    Attributes:
        sources: of each node, from whom it receives, ascending.
        sends: to how many each node sends, int64 `[n]`.
    """

    sources: tuple[Int64, ...]
    sends: Int64

    @classmethod
    def of(cls, sources: Sequence[Int64]) -> Edges:
        """The edges into each node."""
        n = len(sources)
        return cls(tuple(sources), np.bincount(np.concatenate([*sources, np.empty(0, np.int64)]), minlength=n))

    @property
    def receives(self) -> Int64:
        """From how many each node receives, `[n]`."""
        return np.array([len(one) for one in self.sources], dtype=np.int64)

    def components(self) -> int:
        """Into how many parts the graph falls that no edge joins, whatever its direction."""
        into: list[list[int]] = [one.tolist() for one in self.sources]
        beside = [list(one) for one in into]
        for node, sources in enumerate(into):
            for source in sources:
                beside[source].append(node)
        seen, found = [False] * len(beside), 0
        for start in range(len(beside)):
            found += not seen[start]
            stack = [start]
            while stack:
                node = stack.pop()
                if not seen[node]:
                    seen[node] = True
                    stack += beside[node]
        return found


@lru_cache(maxsize=32)
def edges(graph: GraphConfig, nodes: int, turn: int = 0) -> Edges:
    """The edges of one round of a graph.

    Args:
        nodes: n.
        turn: rounds before this one, from 0, in a graph that changes; below its `period`.
    """
    every = np.arange(nodes)
    if isinstance(graph, ErdosRenyiGraphConfig):
        assert graph.seed is not None, "made concrete where the experiment is known"
        return Edges.of(_random(nodes, graph.seed, graph.degree / (nodes - 1)))
    if isinstance(graph, TorusGraphConfig):
        columns = nodes // torus_rows(graph, nodes)
        down, along = divmod(every, columns)
        sides = [(down * columns + (along + step) % columns) for step in (1, -1)]
        sides += [(every + step * columns) % nodes for step in (1, -1)]
        return Edges.of([np.setdiff1d(one, [node]) for node, one in enumerate(np.stack(sides, axis=1))])
    if isinstance(graph, RingGraphConfig):
        ahead = np.arange(1, graph.degree // 2 + 1)
        steps = np.concatenate([ahead, -ahead])
    elif isinstance(graph, OnePeerGraphConfig):
        steps = np.array([1 << turn])
    elif graph.name == "full":
        steps = np.arange(1, nodes)
    else:
        steps = 1 << np.arange(_bits(nodes))
    return Edges.of([np.unique((node - steps) % nodes) for node in every.tolist()])


def period(graph: GraphConfig, nodes: int) -> int:
    """Rounds after which a graph has the same edges again."""
    return _bits(nodes) if isinstance(graph, OnePeerGraphConfig) else 1


def _bits(nodes: int) -> int:
    """⌈log2 n⌉: powers of two below n."""
    return (nodes - 1).bit_length()


def _random(nodes: int, seed: int, chance: float) -> list[Int64]:
    found: list[list[int]] = [[] for _ in range(nodes)]
    for node in range(nodes):
        others = np.arange(node + 1, nodes)
        drawn = keyed.uniform(seed, keyed.Purpose.GOSSIP_GRAPH, node, others) < chance
        for other in others[drawn].tolist():
            found[node].append(other)
            found[other].append(node)
    return [np.array(sorted(one), dtype=np.int64) for one in found]


@dataclass(frozen=True, slots=True, eq=False)
class NodeWeights:
    """What one node's average is made of.

    Attributes:
        nodes: itself and those that it hears of, ascending.
        weights: of each, above 0.
    """

    nodes: Int64
    weights: Float64


def mixing_weights(mixing: Mixing, edges: Edges, there: Bools) -> list[NodeWeights]:
    """The rows of a mixing matrix.

    An edge to or from a node that is not there weighs nothing; who would have received along it weighs its own model
    by so much more.

    Args:
        there: which nodes sent something in the round, `[n]`.
    """
    degree = edges.receives
    most = int(degree.max(initial=0))
    found = []
    for node, sources in enumerate(edges.sources):
        own = 1 / (1 + int(degree[node]))
        largest = np.maximum(degree[node], degree[sources]) if mixing == "metropolis" else np.full(len(sources), most)
        heard = there[sources] & there[node]
        weights = np.where(heard, 1 / (1 + largest), 0.0)
        found.append(_row(node, sources[heard], weights[heard], own + float((own - weights).sum())))
    return found


def push_weights(edges: Edges, there: Bools) -> list[NodeWeights]:
    """The rows of a matrix of which every node's column sums to 1: it sends even shares, one of them to itself.

    What would go to a node that is not there stays with the sender.
    """
    share = 1 / (1 + edges.sends)
    kept = share.copy()
    found = []
    for node, sources in enumerate(edges.sources):
        heard = there[sources] & there[node]
        lost = sources[~heard]
        kept[lost] += share[lost]
        found.append((sources[heard], share[sources[heard]]))
    return [_row(node, sources, weights, float(kept[node])) for node, (sources, weights) in enumerate(found)]


def matrix(rows: Sequence[NodeWeights]) -> Float64:
    """Weights as a matrix `[n, n]`: row i is what node i's average is made of."""
    found = np.zeros((len(rows), len(rows)))
    for node, row in enumerate(rows):
        found[node, row.nodes] = row.weights
    return found


def spectral_gap(weights: Float64) -> float:
    """1 - |λ2| of a mixing matrix `[n, n]`: the consensus error falls by |λ2| a round, asymptotically."""
    if len(weights) < 2:
        return 1.0
    values = np.sort(np.abs(np.linalg.eigvals(weights)))
    return float(1 - values[-2])


def _row(node: int, sources: Int64, weights: Float64, own: float) -> NodeWeights:
    place = int(np.searchsorted(sources, node))
    return NodeWeights(np.insert(sources, place, node), np.insert(weights, place, own))
