"""The tables of the last evaluation on the clients' own samples, a row for each client: `holdouts.parquet`, and
`client_tests.parquet` where test samples have owners."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raysim.arrays import Float64, Int64
from raysim.errors import RunError
from raysim.files import storing
from raysim.tracking.directory import RunDirectory
from raysim.tracking.headline import OVER_CLIENTS, ClientSet
from raysim.tracking.tables import write_parquet


@dataclass(frozen=True, slots=True)
class ClientMetrics:
    """What was measured on each client's own samples.

    Attributes:
        clients: ids `[n]`, ascending.
        names: of the metrics, `m`.
        values: `[n, m]`; NaN where a metric has no value.
    """

    clients: Int64
    names: tuple[str, ...]
    values: Float64

    def column(self, name: str) -> Float64:
        """A metric's values `[n]`."""
        column: Float64 = self.values[:, self.names.index(name)]
        return column


def over_clients(clients: pa.RecordBatch, measured: Mapping[ClientSet, ClientMetrics]) -> dict[str, Float64]:
    """What was found of the clients of a round, by quantity, without NaN: `train/loss`, `clients/accuracy`.

    Args:
        clients: rows of the clients' table.
        measured: on samples of the clients' own.
    """
    losses = {"train/loss": np.asarray(clients["loss"].drop_null().to_numpy(), dtype=np.float64)}
    own = {OVER_CLIENTS[of] + name: found.column(name) for of, found in measured.items() for name in found.names}
    finite = {name: values[np.isfinite(values)] for name, values in (losses | own).items()}
    return {name: values for name, values in finite.items() if len(values)}


def write_holdouts(run: RunDirectory, round: int, measured: ClientMetrics, of: ClientSet = "holdout") -> None:
    """Write the table of this set, in place of an earlier round's.

    Raises:
        StorageError: the disk refuses; the table that was there is untouched.
    """
    fields = [pa.field("round", pa.int32(), nullable=False), pa.field("client", pa.int64(), nullable=False)]
    schema = pa.schema([*fields, *(pa.field(name, pa.float64()) for name in measured.names)])
    columns = [pa.array(np.full(len(measured.clients), round), pa.int32()), pa.array(measured.clients, pa.int64())]
    columns += [pa.array(measured.column(name), pa.float64(), from_pandas=True) for name in measured.names]
    path = run.own_table(of)
    with storing(path):
        write_parquet(path, schema, [pa.RecordBatch.from_arrays(columns, schema=schema)])


def drop_later_holdouts(run: RunDirectory, after_round: int) -> None:
    """Remove tables of rounds after `after_round`, which the run will do again.

    Raises:
        RunError: a table is damaged.
    """
    for of in OVER_CLIENTS:
        path = run.own_table(of)
        if path.exists():
            rounds = _read(path)["round"]
            if not after_round or not len(rounds) or rounds[0].as_py() > after_round:
                path.unlink()


def read_holdouts(run: RunDirectory, of: ClientSet = "holdout") -> ClientMetrics | None:
    """The table of this set; None where the run has none.

    Raises:
        RunError: it is damaged.
    """
    if not run.own_table(of).exists():
        return None
    table = _read(run.own_table(of))
    names = tuple(table.schema.names[2:])
    values = [np.asarray(table[name].to_numpy(), dtype=np.float64) for name in names]
    shape = np.stack(values, axis=1) if values else np.empty((len(table), 0))
    return ClientMetrics(table["client"].to_numpy(), names, shape)


def _read(path: Path) -> pa.Table:
    try:
        return pq.read_table(path.absolute())
    except (pa.ArrowException, OSError) as error:
        raise RunError(f"{path}: damaged, or not a table of a run ({error})") from None
