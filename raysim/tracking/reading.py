"""Reading a run's tables, finished or not, even while another process writes them.

The Parquet file and the Arrow stream beside it may both be there (see `raysim.tracking.tables`): readers get the rows
of the first, then the rounds that only the second has. Columns have today's names, whatever version wrote them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raysim.errors import RunError
from raysim.rounds.rows import CLIENT_SCHEMA, FORMERLY, round_schema
from raysim.tracking.directory import RunDirectory

BATCH_ROWS = 1 << 16
SMALL_BATCHES = 64


def read_rounds(run: RunDirectory) -> pa.Table:
    """The rounds table, one row a round in order; without rows if nothing was recorded yet.

    Raises:
        RunError: rounds.parquet is damaged.
    """
    schema = stored_schema(run.rounds) or round_schema(())
    return pa.Table.from_batches((aligned(batch, schema) for batch in read_batches(run.rounds)), schema)


def read_clients(run: RunDirectory, columns: Sequence[str] = tuple(CLIENT_SCHEMA.names)) -> Iterator[pa.RecordBatch]:
    """The clients table batch by batch, in rounds' order, without ever holding all of it; nothing if there is none.

    Args:
        run: the run.
        columns: columns to read, besides `round`.

    Raises:
        RunError: clients.parquet is damaged.
    """
    names = list(dict.fromkeys(["round", *columns]))
    return read_batches(run.clients, names)


def read_batches(parquet: Path, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Batches of a table from its Parquet file and from the stream beside it, each round once."""
    names = list(columns) if columns is not None else None
    last = 0
    # The stream is opened first: it is removed only once the Parquet file has everything, so no row can be missed.
    with _opened(parquet.with_suffix(".arrows")) as stream:
        if parquet.exists():
            for batch in _parquet_batches(parquet, names):
                if batch.num_rows:
                    last = max(last, pc.max(batch["round"]).as_py())
                    yield _renamed(batch)
        for batch in stream_batches(stream):
            beyond = batch.filter(pc.greater(batch["round"], last))
            if beyond.num_rows:
                yield _renamed(beyond if names is None else beyond.select(names))


def stored_schema(parquet: Path) -> pa.Schema | None:
    """Columns of a table on disk, the stream's where there is one; None if there is no table."""
    with _opened(parquet.with_suffix(".arrows")) as stream, contextlib.suppress(pa.ArrowInvalid):
        return _renamed_schema(pa.ipc.open_stream(stream).schema)
    if not parquet.exists():
        return None
    with _named(parquet):
        return _renamed_schema(pq.read_schema(parquet.absolute()))


def aligned(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The batch with exactly these columns: those it lacks are null, those the schema lacks are left out."""
    if batch.schema.equals(schema):
        return batch
    columns = [
        batch[column.name].cast(column.type) if column.name in batch.schema.names else pa.nulls(len(batch), column.type)
        for column in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def gathered(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    """Small batches put together to tables of at least `rows` rows, the last one excepted.

    A batch of a few rows takes many times the memory of its values. So no more than `SMALL_BATCHES` are held as they
    come: then they become one.
    """
    group: list[pa.RecordBatch] = []
    small: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        small.append(batch)
        count += batch.num_rows
        if count >= rows:
            yield pa.Table.from_batches([*group, *small])
            group, small, count = [], [], 0
        elif len(small) == SMALL_BATCHES:
            group += pa.Table.from_batches(small).combine_chunks().to_batches()
            small = []
    if group or small:
        yield pa.Table.from_batches([*group, *small])


def stream_batches(source: pa.NativeFile) -> Iterator[pa.RecordBatch]:
    """Every complete batch of a stream: one that a kill tore in the middle, or that is just being written, ends it."""
    try:
        yield from pa.ipc.open_stream(source)
    except pa.ArrowInvalid:
        return
    except OSError as error:
        if error.errno is not None:  # the disk's fault; a stream that ends too early has no number
            raise


def _parquet_batches(path: Path, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
    with _named(path), pq.ParquetFile(path.absolute()) as file:
        yield from file.iter_batches(batch_size=BATCH_ROWS, columns=columns)


def _renamed(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with today's names of columns that an older version of raysim called otherwise."""
    if FORMERLY.keys().isdisjoint(batch.schema.names):
        return batch
    return pa.RecordBatch.from_arrays(batch.columns, schema=_renamed_schema(batch.schema))


def _renamed_schema(schema: pa.Schema) -> pa.Schema:
    return pa.schema([column.with_name(FORMERLY.get(column.name, column.name)) for column in schema])


def _opened(stream: Path) -> pa.NativeFile:
    try:
        return pa.OSFile(str(stream))
    except FileNotFoundError:
        return pa.BufferReader(b"")


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise RunError(f"{path}: damaged, or not a table of a run ({error}); move it away to read the rest") from None
