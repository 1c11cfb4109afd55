"""A file of columns, and how it is written: the Arrow IPC file format, one record batch after another.

A numeric column of shape `()` is a primitive Arrow column, of any other shape an `arrow.fixed_shape_tensor`, which
other Arrow implementations read too. Values are stored as they come: uint8 pixels stay uint8.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa

from raysim.arrays import Array

TEXT = "utf8"
"""`dtype` of a column of strings."""


@dataclass(frozen=True, slots=True)
class Column:
    """Type of a column, and once it is written the SHA-256 of its values."""

    dtype: str
    shape: tuple[int, ...] = ()
    sha256: str = ""

    @property
    def row_bytes(self) -> int:
        """Bytes of one row of a numeric column."""
        return np.dtype(self.dtype).itemsize * math.prod(self.shape)

    def arrow_type(self) -> pa.DataType:
        """The Arrow type."""
        if self.dtype == TEXT:
            return pa.utf8()
        scalar = pa.from_numpy_dtype(np.dtype(self.dtype))
        return pa.fixed_shape_tensor(scalar, self.shape) if self.shape else scalar

    @classmethod
    def of(cls, values: Array) -> Column:
        """The type of `[n, *shape]` values."""
        return cls(values.dtype.name, values.shape[1:])


@dataclass(frozen=True, slots=True)
class FileEntry:
    """What the manifest knows of a file: enough to notice at once that it is not the one that was written."""

    bytes: int
    batches: tuple[int, ...]
    """Rows of each record batch."""
    columns: Mapping[str, Column]

    @property
    def rows(self) -> int:
        """Rows of the file."""
        return sum(self.batches)


class ColumnWriter:
    """Writes a file batch by batch; memory holds one batch."""

    def __init__(self, path: Path, columns: Mapping[str, Column]) -> None:
        """Create `path` with these columns."""
        self._path = path
        self._columns = columns
        self._batches: list[int] = []
        self._digests = {name: hashlib.sha256() for name in columns}
        self._schema = pa.schema([pa.field(name, column.arrow_type(), False) for name, column in columns.items()])
        self._sink = pa.OSFile(str(path), "wb")
        self._writer = pa.ipc.new_file(self._sink, self._schema)

    def write(self, values: Mapping[str, Any]) -> None:
        """Write one record batch: `[n, *shape]` of every column."""
        arrays = []
        for name, column in self._columns.items():
            array = _to_arrow(values[name], column)
            for piece in content(values[name], column):
                self._digests[name].update(piece)
            arrays.append(array)
        self._batches.append(len(arrays[0]))
        self._writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=self._schema))

    def close(self) -> FileEntry:
        """Finish the file; returns its entry for the manifest."""
        self._writer.close()
        self._sink.close()
        columns = {
            name: Column(column.dtype, column.shape, self._digests[name].hexdigest())
            for name, column in self._columns.items()
        }
        return FileEntry(self._path.stat().st_size, tuple(self._batches), columns)

    def __enter__(self) -> ColumnWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._sink.close()


def _to_arrow(values: Any, column: Column) -> pa.Array:
    if column.dtype == TEXT:
        return pa.array(values, pa.utf8())
    if values.shape[1:] != column.shape or values.dtype.name != column.dtype:
        raise ValueError(
            f"a chunk of shards has type {values.dtype} and shape {values.shape[1:]}, "
            f"the first one had {column.dtype} and {column.shape}"
        )
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    if not column.shape:
        return flat
    storage = pa.FixedSizeListArray.from_arrays(flat, math.prod(column.shape))
    return pa.ExtensionArray.from_storage(column.arrow_type(), storage)


def content(values: Any, column: Column) -> Iterator[Any]:
    """Pieces of the bytes that identify a column's values, however they are cut into batches and laid out in a file."""
    if column.dtype == TEXT:
        for text in values:
            encoded = text.encode()
            yield len(encoded).to_bytes(8, "little") + encoded
    else:
        yield np.ascontiguousarray(values).reshape(-1).view(np.uint8)
