"""Which rows of a source each client, and each set of the server, consists of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from raysim.arrays import Array, Int64
from raysim.config import Experiment
from raysim.config.sources import InMemoryConfig, SyntheticVirtualConfig
from raysim.data.build import load_for
from raysim.data.dataset import Pool
from raysim.data.dividing import DividedData, divide
from raysim.errors import DataError
from raysim.files import replacing, storing

if TYPE_CHECKING:
    import pyarrow as pa


def source_rows(experiment: Any, *, data: Any = None) -> pa.Table:
    """The source's samples of each part, as a table of `part`, `client`, `owner` and `row`.

    Args:
        experiment: what `Simulation` takes; of it `data` and the seeds count.
        data: your own, as for `Simulation`.

    Returns:
        A row for each sample that is used: `part` is `train`, `holdout`, `validation` or `test`; `client` and `owner`
        are null where the server alone has it; `row` is its number in the source from 0, without a header, as pandas'
        `iloc` counts, and in the source's own test set where there is one. A window is the row of its target. What
        `data.augmentation` makes has no row.

    Raises:
        DataError: the data is wrong, or made on the workers.

    Example:
        >>> rows = source_rows({"data": {"source": "wine", "test": 0.1}})
        >>> rows.num_rows, rows.column_names
        (178, ['part', 'client', 'owner', 'row'])
    """
    import pyarrow as pa

    experiment = Experiment.of(experiment)
    section = experiment.data
    if isinstance(section.source, SyntheticVirtualConfig):
        raise DataError("data.source: synthetic_virtual makes its samples on the workers; they are no rows of a file")
    if data is not None:
        section = section.model_copy(update={"source": InMemoryConfig()})
    dataset = load_for(section, experiment.data_seed, data, experiment.training.task)
    divided = divide(dataset, section, experiment.data_seed)
    columns = [np.concatenate(values) for values in zip(*_parts(divided), strict=True)]
    part, client, row = columns
    owners = divided.partition.owners
    names = None if owners is None else np.array([str(one) for one in owners.tolist()], object)
    owner = np.full(len(row), None, object)
    if names is not None:
        owner[client >= 0] = names[client[client >= 0]]
    return pa.table(
        {
            "part": pa.array(part.tolist(), pa.string()),
            "client": pa.array(client, pa.int64(), mask=client < 0),
            "owner": pa.array(owner.tolist(), pa.string()),
            "row": pa.array(row, pa.int64()),
        }
    )


def write_rows(experiment: Experiment, file: Path) -> None:
    """Write `source_rows` of a configuration to a Parquet file.

    Raises:
        DataError: see `source_rows`.
        StorageError: it cannot be written.
    """
    import pyarrow.parquet as pq

    table = source_rows(experiment).replace_schema_metadata({"made by": "raysim rows"})
    with storing(file), replacing(file) as temporary:
        pq.write_table(table, temporary)


def _parts(divided: DividedData) -> list[tuple[Array, Int64, Int64]]:
    """Part, client (-1 is none) and row of the samples of each part."""
    sizes, holdout = divided.partition.lengths, divided.holdout
    client = np.repeat(np.arange(len(sizes)), sizes)
    place = np.arange(len(client)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    held = place >= (sizes - holdout)[client]
    found = [(np.where(held, "holdout", "train"), client, _rows(divided.train)[divided.order])]
    if divided.validation is not None:
        found.append(_of_server("validation", _rows(divided.validation)))
    if divided.test is not None:
        part, owner, rows = _of_server("test", _rows(divided.test))
        if divided.tests is not None:
            owner[divided.tests.order] = np.repeat(np.arange(len(sizes)), divided.tests.lengths)
        found.append((part, owner, rows))
    return found


def _of_server(name: str, rows: Int64) -> tuple[Array, Int64, Int64]:
    return np.full(len(rows), name), np.full(len(rows), -1, np.int64), rows


def _rows(pool: Pool) -> Int64:
    return np.arange(len(pool)) if pool.row is None else pool.row
