"""The table of the last evaluation on the clients' own holdouts: `holdouts.parquet`, a row for each client."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from raysim.errors import RunError
from raysim.files import storing
from raysim.tracking.directory import RunDirectory
from raysim.tracking.tables import write_parquet

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ClientMetrics:
    """What was measured on each client's holdout.

    Attributes:
        clients: ids `[n]`, ascending.
        names: of the metrics, `m`.
        values: `[n, m]`; NaN where a metric has no value.
    """

    clients: npt.NDArray[np.int64]
    names: tuple[str, ...]
    values: Float64

    def column(self, name: str) -> Float64:
        """A metric's values `[n]`."""
        column: Float64 = self.values[:, self.names.index(name)]
        return column


def write_holdouts(run: RunDirectory, round: int, measured: ClientMetrics) -> None:
    """Write the table, in place of an earlier round's.

    Raises:
        StorageError: the disk refuses; the table that was there is untouched.
    """
    fields = [pa.field("round", pa.int32(), nullable=False), pa.field("client", pa.int64(), nullable=False)]
    schema = pa.schema([*fields, *(pa.field(name, pa.float64()) for name in measured.names)])
    columns = [pa.array(np.full(len(measured.clients), round), pa.int32()), pa.array(measured.clients, pa.int64())]
    columns += [pa.array(measured.column(name), pa.float64(), from_pandas=True) for name in measured.names]
    with storing(run.holdouts):
        write_parquet(run.holdouts, schema, [pa.RecordBatch.from_arrays(columns, schema=schema)])


def drop_later_holdouts(run: RunDirectory, after_round: int) -> None:
    """Remove the table of a round that the run has yet to come to again.

    Raises:
        RunError: the table is damaged.
    """
    if run.holdouts.exists():
        rounds = _read(run)["round"]
        if not after_round or not len(rounds) or rounds[0].as_py() > after_round:
            run.holdouts.unlink()


def read_holdouts(run: RunDirectory) -> ClientMetrics | None:
    """The table; None where the run has none.

    Raises:
        RunError: it is damaged.
    """
    if not run.holdouts.exists():
        return None
    table = _read(run)
    names = tuple(table.schema.names[2:])
    values = [np.asarray(table[name].to_numpy(), dtype=np.float64) for name in names]
    shape = np.stack(values, axis=1) if values else np.empty((len(table), 0))
    return ClientMetrics(table["client"].to_numpy(), names, shape)


def _read(run: RunDirectory) -> pa.Table:
    try:
        return pq.read_table(run.holdouts)
    except (pa.ArrowException, OSError) as error:
        raise RunError(f"{run.holdouts}: damaged, or not a table of a run ({error})") from None
