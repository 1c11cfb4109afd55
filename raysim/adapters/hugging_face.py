"""Data sets of Hugging Face's `datasets`: columns as they are stored, read in batches when shards are written.

Memory holds labels and owners, a batch of what is read, and a chunk of the store; images are decoded and texts are
tokenised when their samples are written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from raysim.adapters.hub_samples import ROWS, HubColumns, HubReading, is_image
from raysim.arrays import Array
from raysim.data import DataInfo, Dataset, Pool
from raysim.data.owners import owner_name
from raysim.data.sources.arrays import compact
from raysim.data.sources.corpus.hub import ON_THIS_MACHINE, is_saved, needed, offline
from raysim.data.sources.files import first_line
from raysim.data.sources.targets import Task, labels, targets, task_of
from raysim.errors import DataError


def from_hugging_face(
    data: Any,
    *,
    label: str,
    inputs: str | Sequence[str] | None = None,
    client: str | None = None,
    weight: str | None = None,
    train: str = "train",
    test: str | None = "test",
    size: Sequence[int] | None = None,
    tokenizer: Any = None,
    length: int | None = None,
    task: Task | None = None,
) -> Dataset:
    """A data set of the library, as `Simulation(data=…)` takes it.

    Images become pixels `[bands, h, w]`; numbers and lists of numbers what their type says; text token ids and an
    `attention_mask`. Class labels keep their names, text labels are numbered in sorted order.

    Args:
        data: a `Dataset`, a `DatasetDict`, the folder that `save_to_disk` wrote, or a name in this machine's cache.
        label: column to predict.
        inputs: columns that the model is given; by default all that are left. One is given as it is, several by name.
        client: column that says whose sample it is, for `partition: natural`.
        weight: column of weights.
        train, test: splits of a `DatasetDict`; there need be no test split. Others are left alone.
        size: (height, width) that images are resized to; without it all must have one size.
        tokenizer: of texts, from `transformers`, or its name or folder.
        length: tokens of a text, or values of lists of different lengths: shorter ones are filled up with 0; a longer
            text is cut, a longer list is an error.
        task: what the targets are for, where floats may be classes.

    Raises:
        ConfigError: the package `datasets` is not installed.
        DataError: there is no such column, split or data set; a column has no usable type; an owner or a label is
            missing; images differ in size; texts come without a tokenizer.
    """
    datasets = needed("datasets", "from_hugging_face")
    origin = data if isinstance(data, str | Path) else "data"
    parts = _splits(_loaded(datasets, data) if isinstance(data, str | Path) else data, datasets, train, test, origin)
    wanted = (inputs,) if isinstance(inputs, str) else None if inputs is None else tuple(inputs)
    columns = HubColumns.of(parts[0], label, wanted, client, weight, str(origin))
    for part in parts[1:]:
        columns.check_alike(part)
    reading = HubReading(columns, None if size is None else (int(size[0]), int(size[1])), _tokenizer(tokenizer), length)
    reading = reading.measured(parts)
    y, names = _labels(parts, columns, task)
    pools = [_pool(part, reading, one) for part, one in zip(parts, y, strict=True)]
    classes = None if y[0].dtype.kind == "f" else max(int(one.max()) for one in y) + 1
    if classes is not None:
        classes = max(classes, len(names or ()))
        if int(y[0].min()) == int(y[0].max()):
            raise DataError(f"{origin}: column {label!r} is one class alone; at least two are needed")
    info = DataInfo(
        "regression" if classes is None else "classification", pools[0].sample_shape, pools[0].kind,
        y[0].shape[1:], classes, reading.vocabulary, inputs=reading.placed,
    )  # fmt: skip
    identity = " ".join([reading.identity, *(_content(part, columns) for part in parts)])
    return Dataset(pools[0], pools[1] if len(pools) > 1 else None, info, names, identity=identity)


def _loaded(datasets: Any, place: str | Path) -> Any:
    path = Path(place).expanduser()
    try:
        if is_saved(path):
            return datasets.load_from_disk(str(path))
        with offline(download=False):
            return datasets.load_dataset(str(place))
    except Exception as error:  # the library may raise anything
        remedy = ON_THIS_MACHINE.partition(",")[0]
        raise DataError(f"{place}: no data set can be loaded ({first_line(error)}){remedy}") from None


def _splits(data: Any, datasets: Any, train: str, test: str | None, origin: object) -> list[Any]:
    if isinstance(data, datasets.IterableDataset | datasets.IterableDatasetDict):
        raise DataError(f"{origin}: a streamed data set has no length; load it without streaming=True")
    if isinstance(data, datasets.DatasetDict):
        if train not in data:
            raise DataError(f"{origin}: no split {train!r}; there are {', '.join(data)}: name one by train=…")
        if test is not None and test != "test" and test not in data:
            raise DataError(f"{origin}: no split {test!r}; there are {', '.join(data)}")
        found = [data[train], *([data[test]] if test in data else [])]
    elif isinstance(data, datasets.Dataset):
        found = [data]
    else:
        raise DataError(
            f"{origin}: expected a Dataset or a DatasetDict of Hugging Face's datasets, or the folder or name of one, "
            f"got {type(data).__name__}"
        )
    for part in found:
        if len(part) == 0:
            raise DataError(f"{origin}: a split has no samples")
    return found


def _tokenizer(given: Any) -> Any:
    if not isinstance(given, str | Path):
        return given
    transformers = needed("transformers", "from_hugging_face: tokenizer")
    try:
        with offline(download=False):
            return transformers.AutoTokenizer.from_pretrained(str(given))
    except Exception as error:  # the library may raise anything
        raise DataError(f"tokenizer: {given} cannot be loaded ({first_line(error)})") from None


def _column(part: Any, name: str) -> Any:
    """A whole column, small beside the samples: labels, owners or weights."""
    return part.with_format("arrow").select_columns([name])[:][name]


def _labels(parts: Sequence[Any], columns: HubColumns, task: Task | None) -> tuple[list[Array], tuple[str, ...] | None]:
    """Targets of each part, and names of the classes where they have any."""
    where, feature = f"{columns.origin}: column {columns.label!r}", columns.features[columns.label]
    found = []
    for part in parts:
        column = _column(part, columns.label)
        if column.null_count:
            row = column.is_null().to_pylist().index(True)
            raise DataError(f"{where}: row {row + 1} is empty; fill it or remove the row")
        try:
            found.append(np.asarray(column.to_pylist()))
        except ValueError:
            raise DataError(f"{where} has lists of different lengths; targets of a sample have one shape") from None
    names = tuple(feature.names) if hasattr(feature, "names") else None
    if found[0].dtype.kind in "US":
        kinds = np.unique(found[0])
        for one in found[1:]:
            if len(unknown := np.setdiff1d(one, kinds)):
                raise DataError(f"{where}: the test split has {unknown[0]!r}, which training has not; correct it")
        return [np.searchsorted(kinds, one).astype(np.int64) for one in found], tuple(map(str, kinds))
    if task_of(found[0], task, columns.origin) == "regression":
        return [targets(one, columns.origin, columns.label) for one in found], None
    numbers = [labels(one, origin=columns.origin, key=columns.label, floats=task is not None) for one in found]
    return [one if one.ndim == 1 else compact(one) for one in numbers], names


def _pool(part: Any, reading: HubReading, y: Array) -> Pool:
    columns = reading.columns
    x = reading.samples(part)
    kind: Any = "record" if reading.placed else {"flags": "real"}.get(reading.fields[0].kind, reading.fields[0].kind)
    return Pool(x, y, kind, columns.origin, _owners(part, columns), _weights(part, columns, y))


def _owners(part: Any, columns: HubColumns) -> Array | None:
    if columns.client is None or columns.client not in part.features:
        return None
    values = _column(part, columns.client).to_pylist()
    feature = columns.features[columns.client]
    if hasattr(feature, "int2str"):
        values = [None if one is None else feature.int2str(one) for one in values]
    holes = [i for i, one in enumerate(values) if owner_name(one) is None]
    if holes:
        raise DataError(
            f"{columns.origin}: row {holes[0] + 1}, column {columns.client!r} is empty; every sample needs an owner"
        )
    return np.array(values)


def _weights(part: Any, columns: HubColumns, y: Array) -> Array | None:
    if columns.weight is None or columns.weight not in part.features:
        return None
    found = np.asarray(_column(part, columns.weight).to_pylist(), np.float32)
    if found.shape != y.shape[:1] or not (np.isfinite(found) & (found >= 0)).all() or not found.any():
        raise DataError(
            f"{columns.origin}: column {columns.weight!r}: weights are one a sample, not negative, not all 0"
        )
    return np.ascontiguousarray(np.broadcast_to(found.reshape(-1, *(1,) * (y.ndim - 1)), y.shape))


def _content(part: Any, columns: HubColumns) -> str:
    """SHA-256 of the columns as they are stored; of images that are files, path, size and time of change."""
    import pyarrow as pa

    digest = hashlib.sha256()
    chosen = part.with_format("arrow").select_columns([one for one in columns.all if one in part.features])
    for table in chosen.iter(batch_size=ROWS):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema.remove_metadata()) as writer:
            writer.write_table(table.combine_chunks().replace_schema_metadata(None))
        digest.update(sink.getvalue())
        for name in columns.inputs:
            if is_image(columns.features[name]):
                for image in table[name].to_pylist():
                    if image is not None and image.get("bytes") is None and image.get("path"):
                        state = Path(image["path"]).stat()
                        digest.update(repr((state.st_size, state.st_mtime_ns)).encode())
    return digest.hexdigest()
