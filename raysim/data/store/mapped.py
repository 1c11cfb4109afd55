"""Reading a file of columns through a memory map: arrays are read-only views, nothing is read before it is used."""

from __future__ import annotations

import hashlib
import math
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from raysim.arrays import Array, Int64
from raysim.data.store.columns import TEXT, Column, FileEntry, content
from raysim.errors import DataError

_MAGIC = b"ARROW1"
_ARROW_ERRORS = (pa.ArrowException, OSError, ValueError)  # a damaged name or message is not even Unicode
_RELEASE_BYTES = 64 << 20
"""Resident pages that a file's map may gather before they are let go."""


class MappedColumns:
    """A file of columns, memory-mapped. Opening it reads the footer alone, whatever the size of the file."""

    def __init__(self, path: Path, entry: FileEntry) -> None:
        """Open `path`, which must be the file that `entry` describes.

        Raises:
            DataError: the file is missing, truncated, or not that file.
        """
        self._path = path
        self._entry = entry
        self._starts: Int64 = np.cumsum([0, *entry.batches])
        self._numeric = {name: column for name, column in entry.columns.items() if column.dtype != TEXT}
        self._views: dict[int, dict[str, Array]] = {}
        self._strings: dict[str, pa.ChunkedArray] = {}
        self._handed_out = 0
        self._map = self._open_map()
        try:
            self._file = pa.ipc.open_file(pa.BufferReader(pa.py_buffer(self._map)))
            found = {field.name: field.type for field in self._file.schema}
        except _ARROW_ERRORS as error:
            raise self._damaged("is not an Arrow file", error) from None
        expected = {name: column.arrow_type() for name, column in entry.columns.items()}
        if found != expected or self._file.num_record_batches != len(entry.batches):
            raise self._damaged("does not have the columns and record batches that were written")

    def _open_map(self) -> mmap.mmap:
        if self._path.is_symlink() and not self._path.resolve().is_relative_to(self._path.parent.resolve()):
            raise self._damaged("is a link that leads out of the store")
        try:
            with self._path.open("rb") as file:
                size = file.seek(0, 2)
                if size != self._entry.bytes:
                    raise self._damaged(f"has {size} bytes, {self._entry.bytes} were written")
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            raise self._damaged("is missing") from None
        except OSError as error:
            raise DataError(f"{self._path}: cannot be read ({error})") from None
        if mapped[: len(_MAGIC)] != _MAGIC or mapped[-len(_MAGIC) :] != _MAGIC:
            raise self._damaged("is not an Arrow file")
        return mapped

    def _damaged(self, what: str, error: Exception | None = None) -> DataError:
        if error is not None:
            what += " (" + str(error).partition("\n")[0] + ")"
        return DataError(f"{self._path}: {what}; delete the folder {self._path.parent}, it is built again when needed")

    def rows(self, start: int, stop: int) -> dict[str, Array]:
        """Rows start … stop-1 of every numeric column, as read-only views of the map.

        Raises:
            DataError: the rows are not in one record batch, or the file is damaged.
        """
        if start == stop:
            return {name: np.empty((0, *column.shape), column.dtype) for name, column in self._numeric.items()}
        batch = int(np.searchsorted(self._starts, start, side="right")) - 1
        first = int(self._starts[batch])
        if batch >= len(self._entry.batches) or start < 0 or stop > first + self._entry.batches[batch]:
            raise self._damaged(f"has no record batch with the rows {start} to {stop}")
        views = self._batch(batch)
        result = {name: values[start - first : stop - first] for name, values in views.items()}
        self._release_pages(sum(values.nbytes for values in result.values()))
        return result

    def all(self) -> dict[str, Array]:
        """The only record batch of the file: every numeric column whole.

        Raises:
            DataError: the file is damaged.
        """
        return self.rows(0, self._entry.rows)

    def strings(self, name: str) -> pa.ChunkedArray:
        """A column of strings, left in Arrow's memory.

        Raises:
            DataError: the column is damaged.
        """
        if name not in self._strings:
            try:
                column = self._file.read_all().column(name)
                column.validate(full=True)  # an offset out of bounds would end the process
            except _ARROW_ERRORS as error:
                raise self._damaged(f"column {name!r} is damaged", error) from None
            self._strings[name] = column
        return self._strings[name]

    def verify(self, *, text: bool = True) -> None:
        """Read the whole file and compare every column's SHA-256; strings, which take longer, only with `text`.

        Raises:
            DataError: a column is not what was written; names it.
        """
        for name, column in (self._entry.columns if text else self._numeric).items():
            digest = hashlib.sha256()
            for values in self._pieces(name, column):
                for piece in content(values, column):
                    digest.update(piece)
            if digest.hexdigest() != column.sha256:
                raise self._damaged(f"column {name!r} is damaged (its SHA-256 is not the one that was written)")

    def _pieces(self, name: str, column: Column) -> Iterator[Any]:
        """A column, one record batch after another."""
        if column.dtype == TEXT:
            yield self.strings(name).to_pylist()
            return
        for i in range(len(self._entry.batches)):
            yield self._batch(i)[name]
            self._release_pages(_RELEASE_BYTES)

    def _batch(self, i: int) -> dict[str, Array]:
        if i not in self._views:
            try:
                batch = self._file.get_batch(i)
            except _ARROW_ERRORS as error:
                raise self._damaged(f"record batch {i} is damaged", error) from None
            self._views[i] = {name: self._view(batch, name, column, i) for name, column in self._numeric.items()}
        return self._views[i]

    def _view(self, batch: pa.RecordBatch, name: str, column: Column, i: int) -> Array:
        array = batch.column(name)
        if column.shape:
            array = array.storage.values
        count = self._entry.batches[i] * math.prod(column.shape)
        values = array.buffers()[1]
        itemsize = np.dtype(column.dtype).itemsize
        if batch.num_rows != self._entry.batches[i] or values is None or values.size < count * itemsize:
            raise self._damaged(f"record batch {i} has not the {self._entry.batches[i]} rows that were written")
        flat = np.frombuffer(values, dtype=column.dtype, count=count)
        return flat.reshape(self._entry.batches[i], *column.shape)

    def _release_pages(self, nbytes: int) -> None:
        """Bound the resident memory: now and then let go of the map's pages.

        They stay in the system's page cache, shared by all processes, and views already handed out stay valid: a page
        that is touched again is simply mapped again.
        """
        self._handed_out += nbytes
        if self._handed_out >= _RELEASE_BYTES and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)
            self._handed_out = 0
