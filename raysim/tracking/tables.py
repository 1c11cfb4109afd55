"""Tables that survive a kill: rows go to an Arrow stream as they come, and become Parquet at checkpoints.

While a run goes on, `<table>.arrows` holds every row since round 1, written round by round, and `<table>.parquet` the
rows up to the last time the stream was folded into it. At the end the Parquet file holds everything and the stream is
removed; a resume makes the stream again. `raysim.tracking.reading` reads either state.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raysim.config import Experiment
from raysim.files import storing, sweep, sync_replace, temporary_for
from raysim.rounds.digests import Digesting
from raysim.rounds.rows import CLIENT_SCHEMA, VIRTUAL_SCHEMA, RoundRow, round_schema, round_values
from raysim.tracking.chain import ChainWriter, cut
from raysim.tracking.directory import RunDirectory
from raysim.tracking.reading import aligned, gathered, read_batches, stored_schema, stream_batches
from raysim.tracking.round_messages import RoundMessages

ROW_GROUP = 1 << 16
SMALL_STREAM = 1024 * 1024
"""Bytes up to which a stream is folded at every checkpoint: about 500 rounds."""


class RunTables:
    """The rounds table and the clients table of a run that is being written, and the chain that binds their rows."""

    def __init__(
        self,
        run: RunDirectory,
        metrics: Sequence[str],
        *,
        clients: bool = True,
        virtual: bool = False,
        chain: bool = False,
        after_round: int = 0,
    ) -> None:
        """Open the tables for writing, keeping rows up to `after_round` and dropping the rest.

        Args:
            run: the run, whose lock the caller holds.
            metrics: names of the metric columns; columns that a resumed table has besides are kept.
            clients: whether to keep a clients table.
            virtual: whether it has what trips took in virtual time.
            chain: whether to go on with the chain; otherwise it ends after `after_round`.
            after_round: round of the checkpoint that the run continues from; 0 starts empty.

        Raises:
            RunError: a table to continue is damaged.
            StorageError: the disk refuses.
        """
        with storing(run.path):
            sweep(run.path)
            self._rounds = TableWriter(run.rounds, round_schema(metrics), after_round)
            self._messages = RoundMessages(self._rounds.schema)
            of_clients = pa.schema([*CLIENT_SCHEMA, *VIRTUAL_SCHEMA]) if virtual else CLIENT_SCHEMA
            self._clients = TableWriter(run.clients, of_clients, after_round) if clients else None
            self._chain: ChainWriter | None = None
            if chain:
                self._chain = ChainWriter(run.chain, after_round=after_round)
            else:
                cut(run.chain, after_round)

    def begin(self, experiment: Experiment, environment: Mapping[str, Any], server: Digesting | None) -> None:
        """A sitting begins in this environment, from this server.

        Raises:
            StorageError: the disk refuses.
        """
        if self._chain is not None and server is not None:
            self._chain.begin(experiment, environment["bits"], server)

    def append(self, row: RoundRow, clients: pa.RecordBatch | None = None, server: Digesting | None = None) -> None:
        """Add a round; once this returns, a kill of this process cannot lose its rows.

        Args:
            row: the round.
            clients: its cohort.
            server: what came of it, for the chain, which has it from the next `save` on.

        Raises:
            ValueError: the row has a metric that was not declared, or the batch another schema than its table.
            StorageError: the disk refuses; the rounds that were there can be read.
        """
        if self._clients is not None and clients is not None:
            self._clients.append(clients)
        values = round_values(row)
        self._rounds.write(self._messages.of(values))
        if self._chain is not None and clients is not None and server is not None:
            self._chain.append(values, clients, server)

    def save(self) -> None:
        """Make every row durable, and the chain to the last of them; call it before the checkpoint that relies on them.

        Raises:
            StorageError: the disk refuses; no row is lost.
        """
        for table in self._tables():
            table.save()
        if self._chain is not None:
            self._chain.save()

    def close(self) -> None:
        """Fold everything into Parquet and remove the streams. Does nothing the second time.

        Raises:
            StorageError: the disk refuses; the streams stay, and no row is lost.
        """
        with ExitStack() as each:
            for table in self._tables():
                each.callback(table.close)
            if self._chain is not None:
                each.callback(self._chain.close)

    def _tables(self) -> Iterator[TableWriter]:
        if self._clients is not None:
            yield self._clients
        yield self._rounds

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class TableWriter:
    """One table: an Arrow stream that grows round by round, and the Parquet file that it is folded into."""

    def __init__(self, parquet: Path, schema: pa.Schema, after_round: int = 0) -> None:
        """Start a new stream with the rows up to `after_round` of the table that is there (see `RunTables`)."""
        self._parquet = parquet
        self._stream = parquet.with_suffix(".arrows")
        self._folded, self._unfolded = 0, True
        found = stored_schema(parquet) if after_round else None
        self.schema = _with_columns_of(schema, found)

        temporary = temporary_for(self._stream)
        # The file is renamed while it is open, and goes on growing under its final name. Arrow's own file is not
        # buffered, and writes a message without a chance for Ctrl-C to leave half of it.
        self._sink = pa.OSFile(str(temporary), "wb")
        self._sink.write(self.schema.serialize())
        if found is not None:
            for batch in read_batches(parquet):
                kept = batch.filter(pc.less_equal(batch["round"], after_round))
                self.append(aligned(kept, self.schema))
        sync_replace(temporary, self._stream)
        if parquet.exists():
            self.fold()  # otherwise readers would still find the dropped rounds

    def append(self, batch: pa.RecordBatch) -> None:
        """Add rows and hand them to the operating system; all of them, or none.

        Raises:
            ValueError: the batch has another schema than the table.
            StorageError: the disk refuses.
        """
        if not batch.schema.equals(self.schema):
            raise ValueError(f"{self._parquet.name}: a batch of the columns {batch.schema.names}")
        if batch.num_rows:
            self.write(batch.serialize())

    def write(self, message: bytes | pa.Buffer) -> None:
        """Add the rows of a message, as `append` does. Arrow's own writer would write each of its buffers by itself."""
        end, self._unfolded = self._sink.tell(), True
        with storing(self._stream):
            try:
                self._sink.write(message)
            except OSError:
                os.ftruncate(self._sink.fileno(), end)
                os.lseek(self._sink.fileno(), end, os.SEEK_SET)
                raise

    def save(self) -> None:
        """Make the rows durable, and fold them into Parquet unless that is not worth its cost yet.

        Parquet cannot grow, so a fold writes the whole table again. A large table is folded only when it has doubled:
        all folds together then cost no more than a few writes of the final table. In between its stream is synced.
        """
        with storing(self._stream):
            os.fsync(self._sink.fileno())
        if self._sink.tell() < SMALL_STREAM or self._sink.tell() >= 2 * self._folded:
            self.fold()

    def fold(self) -> None:
        """Write the whole stream as Parquet, under a temporary name and a row group at a time, unless it is there."""
        if not self._unfolded:
            return
        with storing(self._parquet), pa.OSFile(str(self._stream)) as stream:
            write_parquet(self._parquet, self.schema, stream_batches(stream))
        pa.default_memory_pool().release_unused()  # what it took is not needed until the table has grown
        self._folded, self._unfolded = self._sink.tell(), False

    def close(self) -> None:
        """Fold, then remove the stream. Does nothing the second time."""
        if self._sink.closed:
            return
        try:
            self.fold()
        finally:
            self._sink.close()
        self._stream.unlink()


def write_parquet(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """Write batches as a Parquet file, atomically, holding one row group in memory."""
    temporary = temporary_for(path)
    try:
        # Arrow would take a relative path whose first folder has a colon in its name for a URI.
        with pq.ParquetWriter(temporary.absolute(), schema, compression="zstd") as writer:
            for group in gathered(batches, ROW_GROUP):
                writer.write_table(group.cast(schema))
        sync_replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _with_columns_of(schema: pa.Schema, found: pa.Schema | None) -> pa.Schema:
    """The schema with room for the rows that were found: what one of the two has not is null there."""
    if found is None:
        return schema
    own = [column if column.name in found.names else column.with_nullable(True) for column in schema]
    extra = [column.with_nullable(True) for column in found if column.name not in schema.names]
    return pa.schema([*own, *extra])
