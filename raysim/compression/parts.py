"""Which fields of a record a codec is for."""

from __future__ import annotations

from collections.abc import Sequence

from raysim.aggregation import Field, nothing
from raysim.aggregation.stages import ModelColumns
from raysim.compression.layers import LayerChoice, Layers
from raysim.errors import ConfigError


def compressible(
    columns: ModelColumns, fields: Sequence[Field], choice: LayerChoice, *, replaced: bool = False
) -> list[tuple[Field, Layers]]:
    """The fields that have layers to compress, and those: vectors of the clients' data. Numbers about them stay.

    Args:
        replaced: whether another vector is folded in place of a field.

    Raises:
        ConfigError: there is none, or the server takes something of single clients that would be another.
    """
    found: list[tuple[Field, Layers]] = []
    for field in fields:
        if field.constant or field.statistic or field.size == 1:
            continue
        if field.sent is nothing:
            raise ConfigError(
                f"{field.name!r} is of values that clients do not send, before they are compressed; set "
                "algorithm.products to rows"
            )
        if field.kept and replaced:
            raise ConfigError(
                f"the algorithm's server takes {field.name!r} of every client, and there would be none; use compress"
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
