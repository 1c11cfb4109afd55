"""Which values of a field a codec is for, and which are sent as they are."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

import numpy as np

from raysim.aggregation import Field
from raysim.aggregation.stages import ModelColumns
from raysim.arrays import Array, Float32, Int64
from raysim.errors import ConfigError


class Layers:
    """The layers of a field that are compressed: taken out as one vector without padding, and put back.

    A field over the model's columns has the model's parameters and buffers for layers; any other is one layer.

    Attributes:
        shapes: of the layers, in order.
        n: their values.
        dense: values that are sent as they are.
    """

    def __init__(self, columns: ModelColumns, field: Field, chosen: LayerChoice) -> None:
        """The layers of a field.

        Raises:
            ConfigError: a pattern matches none of them.
        """
        self._size = field.size
        if field.size in (columns.size, columns.trainable):
            segments = [one for one in columns.segments if one.start < field.size]
            names = [one.name for one in segments]
            for pattern in chosen.patterns:
                if not any(fnmatchcase(name, pattern) for name in names):
                    raise ConfigError(f"{pattern!r} matches no parameter; there are {', '.join(names)}")
            taken = [one for one in segments if chosen.takes(one.name, one.size)]
            self.shapes: list[tuple[int, ...]] = [tuple(one.shape) for one in taken]
            self._spans = [slice(one.start, one.start + one.size) for one in taken]
            rest = [slice(one.start, one.start + one.size) for one in segments if one not in taken]
        else:
            if chosen.patterns:
                raise ConfigError(f"{field.name!r} has no layers of the model here; remove include and exclude")
            whole = chosen.takes("", field.size)
            self.shapes = [(field.size,)] if whole else []
            self._spans = [slice(0, field.size)] if whole else []
            rest = [] if whole else [slice(0, field.size)]
        self._rest = rest
        self.n = sum(span.stop - span.start for span in self._spans)
        self.dense = sum(span.stop - span.start for span in rest)

    def take(self, row: Float32) -> Float32:
        """The values of these layers, of a vector of the field; in memory of their own."""
        return np.concatenate([np.empty(0, np.float32), *(row[span] for span in self._spans)])

    def put(self, row: Array, values: Array) -> None:
        """Put values into their places in a vector of the field."""
        at = 0
        for span in self._spans:
            row[span] = values[at : at + span.stop - span.start]
            at += span.stop - span.start

    @property
    def columns(self) -> Int64:
        """Of these layers in the field, `[n]`."""
        return _columns(self._spans)

    @property
    def rest(self) -> Int64:
        """Columns of the other layers."""
        return _columns(self._rest)


class LayerChoice:
    """Layers by patterns of their names, and by size."""

    def __init__(self, include: Sequence[str], exclude: Sequence[str], dense_below: int) -> None:
        self._include, self._exclude, self._smallest = include, exclude, dense_below
        self.patterns = [*(one for one in include if one != "*"), *exclude]

    def takes(self, name: str, size: int) -> bool:
        """Whether a layer is compressed."""
        inside = any(fnmatchcase(name, pattern) for pattern in self._include)
        return size > 0 and size >= self._smallest and inside and not any(fnmatchcase(name, p) for p in self._exclude)


def _columns(spans: Sequence[slice]) -> Int64:
    return np.concatenate([np.empty(0, np.int64), *(np.arange(span.start, span.stop) for span in spans)])
