"""The `algorithm` section of decentralised learning: nodes with a model each, and the graph along which it travels."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, Tag, model_validator

from raysim.config.algorithm_base import BaseAlgorithmConfig, DataFacts
from raysim.config.base import BY_NAME, SHORTHAND, Section
from raysim.config.bounds import SEED


class RingGraphConfig(Section):
    """Nodes in a circle; each has the nearest ones on both sides as neighbours."""

    name: Literal["ring"] = "ring"
    degree: int = Field(2, ge=2)
    """Neighbours of a node, half of them on each side; an even number."""

    @model_validator(mode="after")
    def _as_many_on_each_side(self) -> RingGraphConfig:
        if self.degree % 2:
            raise ValueError(
                f"degree: {self.degree} neighbours have no half on each side of a ring; use an even number"
            )
        return self


class TorusGraphConfig(Section):
    """Nodes on a grid whose opposite sides touch; each has four neighbours, or fewer where a side has two nodes."""

    name: Literal["torus"] = "torus"
    rows: int | None = Field(None, ge=2)
    """Rows of the grid; by default the largest divisor of the number of nodes up to its root."""


class ErdosRenyiGraphConfig(Section):
    """Every two nodes are neighbours by chance, keyed by the seed (Erdős & Rényi 1959)."""

    name: Literal["erdos_renyi"] = "erdos_renyi"
    degree: float = Field(6.0, gt=0)
    """Neighbours of a node on average: the chance of an edge is `degree` / (nodes - 1)."""
    seed: int | None = Field(None, ge=0, le=SEED)
    """Of the graph; by default that of the experiment."""


class ExponentialGraphConfig(Section):
    """Node i sends to i + 1, i + 2, i + 4, … (Assran et al. 2019)."""

    name: Literal["exponential"] = "exponential"


class OnePeerGraphConfig(Section):
    """The exponential graph, an edge at a time: in round t node i sends to i + 2^(t mod ⌈log2 n⌉) (Assran et al.)."""

    name: Literal["one_peer"] = "one_peer"


class FullGraphConfig(Section):
    """Everybody sends to everybody: federated averaging without a server."""

    name: Literal["full"] = "full"


GraphConfig = Annotated[
    Annotated[RingGraphConfig, Tag("ring")]
    | Annotated[TorusGraphConfig, Tag("torus")]
    | Annotated[ErdosRenyiGraphConfig, Tag("erdos_renyi")]
    | Annotated[ExponentialGraphConfig, Tag("exponential")]
    | Annotated[OnePeerGraphConfig, Tag("one_peer")]
    | Annotated[FullGraphConfig, Tag("full")],
    BY_NAME,
    SHORTHAND,
]


class GossipConfig(BaseAlgorithmConfig):
    """What every decentralised algorithm takes. Clients are nodes; all of them train in every round."""

    apart: ClassVar[bool] = True

    name: str
    graph: GraphConfig = RingGraphConfig()
    """Who sends to whom."""
    nodes: int | None = Field(None, ge=1)
    """Number of nodes; counted by itself."""

    def fitted(self, facts: DataFacts) -> Self:
        n = facts.population
        if self.nodes not in (None, n):
            raise ValueError(f"nodes: {self.nodes} is not the number of clients ({n}); leave it out")
        if n < 2:
            raise ValueError(f"name: {self.name} needs two nodes or more, and there is one client")
        if facts.cohort != n:
            raise ValueError(
                f"name: all nodes of {self.name} train in every round, and cohort is {facts.cohort} of {n}; set cohort "
                "to 1.0"
            )
        graph = self.graph
        if isinstance(graph, RingGraphConfig | ErdosRenyiGraphConfig) and graph.degree >= n:
            raise ValueError(
                f"graph.degree: {graph.degree:g} neighbours, but a node has only {n - 1} others; lower it, or use "
                "graph full"
            )
        if isinstance(graph, TorusGraphConfig):
            _check_torus(graph, n)
        if isinstance(graph, ErdosRenyiGraphConfig) and graph.seed is None:
            graph = graph.model_copy(update={"seed": facts.seed})
        return self.model_copy(update={"nodes": n, "graph": graph})


class DPsgdConfig(GossipConfig):
    """Local steps, then an average over the neighbours (Lian et al. 2017)."""

    name: Literal["d_psgd"] = "d_psgd"
    mixing: Literal["metropolis", "uniform"] = "metropolis"
    """Weight of an edge between nodes of d and e neighbours: 1 / (1 + max(d, e)), or for all 1 / (1 + the most)."""


class PushSumConfig(GossipConfig):
    """Local steps, then shares sent to the neighbours: stochastic gradient push (Assran et al. 2019)."""

    name: Literal["push_sum"] = "push_sum"


def torus_rows(graph: TorusGraphConfig, nodes: int) -> int:
    """Rows of the grid that this number of nodes makes; 1 where no grid has two rows or more."""
    if graph.rows is not None:
        return graph.rows
    return max(rows for rows in range(1, int(nodes**0.5) + 1) if nodes % rows == 0)


def _check_torus(graph: TorusGraphConfig, nodes: int) -> None:
    rows = torus_rows(graph, nodes)
    if nodes % rows or nodes // rows < 2:
        raise ValueError(f"graph.rows: {nodes} nodes are no grid of {rows} rows of two or more; use another number")
    if rows < 2:
        raise ValueError(
            f"graph: {nodes} nodes are no grid, as {nodes} is no product; change their number, or use ring"
        )
