"""The `algorithm` section of a hierarchy: clients, edges with rounds of their own, and a cloud."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, Tag

from raysim.config.algorithm_base import AveragingConfig, DataFacts
from raysim.config.base import BY_NAME, SHORTHAND, Section
from raysim.config.bounds import SECONDS


class KeyAssignConfig(Section):
    """Clients are dealt to the edges in a random order, keyed by the seed: as many to each."""

    name: Literal["key"] = "key"


class SizeAssignConfig(Section):
    """Clients are dealt so that edges have about as many training samples: the largest first, to the emptiest edge."""

    name: Literal["size"] = "size"


class FileAssignConfig(Section):
    """The edge of each client is read from CSV or Parquet, a row for each client with its id as `client`."""

    name: Literal["file"] = "file"
    path: str
    """The file."""
    column: str = "edge"
    """The column that names the edge: numbers or texts, of which there are `edges` different ones."""


AssignConfig = Annotated[
    Annotated[KeyAssignConfig, Tag("key")]
    | Annotated[SizeAssignConfig, Tag("size")]
    | Annotated[FileAssignConfig, Tag("file")],
    BY_NAME,
    SHORTHAND,
]


class BackhaulConfig(Section):
    """The links between the edges of a hierarchy and its cloud."""

    upload: float | None = Field(None, gt=0)
    """Bytes a second from an edge; without a value messages take no time."""
    download: float | None = Field(None, gt=0)
    """Bytes a second to an edge; without a value messages take no time."""
    latency: float = Field(0.0, ge=0, le=SECONDS)
    """Seconds of a message beside its bytes."""


class HierFavgConfig(AveragingConfig):
    """Federated averaging at edges, whose models a cloud averages now and then (Liu et al. 2020).

    A round is one of the edges'. `client.steps` or `client.epochs` are the paper's κ1."""

    name: Literal["hierfavg"] = "hierfavg"
    edges: int = Field(4, ge=1)
    """Edges L."""
    edge_rounds: int = Field(2, ge=1)
    """Rounds of the edges for each of the cloud, κ2; 1 is FedAvg."""
    assign: AssignConfig = KeyAssignConfig()
    """Which edge a client belongs to."""

    def fitted(self, facts: DataFacts) -> Self:
        if self.edges > facts.population:
            raise ValueError(f"edges: {self.edges} edges, but only {facts.population} clients; lower it")
        return self
