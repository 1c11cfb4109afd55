"""Which fields of a record a codec is for."""

from __future__ import annotations

from collections.abc import Sequence

from raysim.aggregation import Field, nothing
from raysim.aggregation.stages import ModelColumns
from raysim.compression.layers import LayerChoice, Layers
from raysim.errors import ConfigError


def compressible(columns: ModelColumns, fields: Sequence[Field], choice: LayerChoice) -> list[tuple[Field, Layers]]:
    """The fields that have layers to compress, and those: vectors of the clients' data. Numbers about them stay.

    Raises:
        ConfigError: there is none, or the server takes a field of every client by itself.
    """
    found: list[tuple[Field, Layers]] = []
    for field in fields:
        if field.constant or field.statistic or field.size == 1:
            continue
        if field.kept or field.sent is nothing:
            raise ConfigError(
                f"the algorithm's server computes with each client's {field.name!r}, which must be what it trained; "
                "set algorithm.products to factors, or use another algorithm"
            )
        layers = Layers(columns, field, choice)
        if layers.n:
            found.append((field, layers))
    if not found:
        raise ConfigError("no layer is left to compress; lower dense_below, or change include and exclude")
    return found


def sized(size: int, columns: ModelColumns) -> bool:
    """Whether a vector of this size would be taken for one over the model's columns."""
    return size in (columns.size, columns.trainable)
