"""How samples are dealt to clients: `data.partition`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Tag, field_validator

from raysim.config.base import BY_NAME, SHORTHAND, CustomConfig, Section


class BasePartitionConfig(Section):
    """What every partitioner takes."""

    allow_empty: bool = False
    """Accept clients without training samples; they take part with weight zero."""


class IidPartitionConfig(BasePartitionConfig):
    """Shuffle, then deal equal shares."""

    name: Literal["iid"] = "iid"
    clients: int = Field(100, ge=1)
    """Population."""


class ShardsPartitionConfig(BasePartitionConfig):
    """Sort by label, cut into equal shards, deal `shards_per_client` to each (McMahan et al. 2017, section 3)."""

    name: Literal["shards"] = "shards"
    clients: int = Field(100, ge=1)
    """Population."""
    shards_per_client: int = Field(2, ge=1)
    """Shards of one client, hence roughly the labels it sees."""


class DirichletPartitionConfig(BasePartitionConfig):
    """Label skew: each class is spread over the clients by a Dirichlet draw (Hsu, Qi & Brown 2019; NIID-Bench)."""

    name: Literal["dirichlet"] = "dirichlet"
    clients: int = Field(100, ge=1)
    """Population."""
    alpha: float = Field(0.5, gt=0)
    """Concentration: small is skewed, large is IID."""
    min_size: int = Field(10, ge=0)
    """Smallest client; draws are repeated until every client has that many."""


class ClassesPartitionConfig(BasePartitionConfig):
    """Each client holds `classes_per_client` labels, and a label's samples are shared equally by its holders."""

    name: Literal["classes"] = "classes"
    clients: int = Field(100, ge=1)
    """Population."""
    classes_per_client: int = Field(2, ge=1)
    """Labels of one client."""


class LabelSharesPartitionConfig(BasePartitionConfig):
    """Label skew as it is asked for: clients of one size, each with its own share of every class."""

    name: Literal["label_shares"] = "label_shares"
    shares: tuple[Annotated[float, Field(ge=0, le=1)] | tuple[Annotated[float, Field(ge=0, le=1)], ...], ...] = Field(
        min_length=1
    )
    """For each client the share of class 1, where there are two, or a list with the share of class 0, 1, …."""
    size: int | None = Field(None, ge=1)
    """Samples of a client; by default as many as the classes allow. What is left over is left out."""

    @field_validator("allow_empty")
    @classmethod
    def _no_client_is_empty(cls, allow_empty: bool) -> bool:
        if allow_empty:
            raise ValueError("all clients have the same number of samples, so that none is empty; remove it")
        return allow_empty

    @field_validator("shares")
    @classmethod
    def _each_is_a_whole(cls, shares: tuple[float | tuple[float, ...], ...]) -> tuple[float | tuple[float, ...], ...]:
        rows = [(1 - one, one) if isinstance(one, float) else one for one in shares]
        for client, row in enumerate(rows):
            if len(row) != len(rows[0]):
                raise ValueError(f"client {client} has {len(row)} shares, client 0 has {len(rows[0])}")
            if abs(sum(row) - 1) > 1e-6:
                raise ValueError(f"the shares of client {client} add up to {sum(row):g}, not to 1")
        return shares


class QuantityPartitionConfig(BasePartitionConfig):
    """IID labels, unequal sizes."""

    name: Literal["quantity"] = "quantity"
    clients: int = Field(100, ge=1)
    """Population."""
    distribution: Literal["power_law", "lognormal"] = "power_law"
    """`power_law`: the client of rank r gets a share ∝ r^-exponent; `lognormal`: shares ∝ exp(sigma·z)."""
    exponent: float = Field(1.0, gt=0)
    """Exponent of the power law."""
    sigma: float = Field(1.0, gt=0)
    """Standard deviation of the log-normal's logarithm."""
    min_size: int = Field(1, ge=0)
    """Smallest client."""


class NaturalPartitionConfig(BasePartitionConfig):
    """Every owner in the data (a column, a speaking role, a synthetic client) is a client."""

    name: Literal["natural"] = "natural"
    min_size: int = Field(1, ge=1)
    """Owners with fewer samples are left out."""
    clients: int | None = Field(None, ge=1)
    """Keep this many owners, chosen by the seed; by default all."""

    @field_validator("allow_empty")
    @classmethod
    def _no_owner_is_empty(cls, allow_empty: bool) -> bool:
        if allow_empty:
            raise ValueError("every owner has samples, so that no client is empty; remove it")
        return allow_empty


PartitionConfig = Annotated[
    Annotated[IidPartitionConfig, Tag("iid")]
    | Annotated[ShardsPartitionConfig, Tag("shards")]
    | Annotated[DirichletPartitionConfig, Tag("dirichlet")]
    | Annotated[ClassesPartitionConfig, Tag("classes")]
    | Annotated[LabelSharesPartitionConfig, Tag("label_shares")]
    | Annotated[QuantityPartitionConfig, Tag("quantity")]
    | Annotated[NaturalPartitionConfig, Tag("natural")]
    | Annotated[CustomConfig, Tag("custom")],
    BY_NAME,
    SHORTHAND,
]
