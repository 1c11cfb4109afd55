"""Writing a store, chunk by chunk: memory holds one chunk of clients, whatever the population."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from raysim.arrays import Array, Int64
from raysim.data.federation import DataInfo, Samples, ServerPart
from raysim.data.left_out import LeftOut
from raysim.data.store.columns import TEXT, Column, ColumnWriter, FileEntry
from raysim.data.store.manifest import HISTOGRAMS, INDEX, SERVER_FILES, TESTS, TRAIN, Manifest

BATCH_BYTES = 64 << 20
"""Size of a record batch; only a client that is larger has a larger one, of its own."""


class StoreWriter:
    """Writes the files of a store into a folder that is not read yet.

    `append` the clients in their order, `server` the server's sets, `tests` if clients own some of the test set, then
    `close`.
    """

    def __init__(self, folder: Path, info: DataInfo, *, histograms: bool = True) -> None:
        """Write into `folder`; with `histograms` count each client's labels, where a sample has one."""
        self._folder = folder
        self._info = info
        self._histograms = histograms and info.task == "classification" and not info.target_shape
        self._train: ColumnWriter | None = None
        self._files: dict[str, FileEntry] = {}
        self._sizes: list[Int64] = []
        self._holdout: list[Int64] = []
        self._counts: list[Array] = []
        self._samples = {"validation": 0, "test": 0}
        self._tests: Int64 | None = None

    def append(self, samples: Samples, sizes: Int64, holdout: Int64) -> None:
        """Append whole clients, one after another.

        Args:
            samples: all samples of these clients, client after client; each client's held-out samples come last.
            sizes: `[clients]` samples of each, holdout included.
            holdout: `[clients]` how many of them are held out.
        """
        if int(sizes.sum()) != len(samples):
            raise ValueError(f"a chunk of {len(samples)} samples was given for clients of {int(sizes.sum())}")
        if self._train is None:
            self._train = ColumnWriter(self._folder / TRAIN, _columns(samples))
        ends = np.cumsum(sizes)
        for first, last in cut(sizes, self.batch_rows(samples)):
            start, stop = int(ends[first] - sizes[first]), int(ends[last - 1])
            if stop > start:
                self._train.write(_values(samples, start, stop))
        self._sizes.append(sizes - holdout)
        self._holdout.append(holdout)
        if self._histograms:
            self._counts.append(label_counts(samples.y, sizes, holdout, self._info.classes or 0))

    @staticmethod
    def batch_rows(samples: Samples) -> int:
        """Samples like these (there may be none of them) in a record batch."""
        return BATCH_BYTES // max(1, sum(column.row_bytes for column in _columns(samples).values()))

    def server(self, part: ServerPart, samples: Samples) -> None:
        """Write the server's validation or test set, in one record batch so that it is one array."""
        with ColumnWriter(self._folder / SERVER_FILES[part], _columns(samples)) as writer:
            writer.write(_values(samples, 0, len(samples)))
            self._files[SERVER_FILES[part]] = writer.close()
        self._samples[part] = len(samples)

    def tests(self, rows: Int64, sizes: Int64) -> None:
        """Write whose the samples of the test set are.

        Args:
            rows: positions in the test set, client after client.
            sizes: `[clients]` how many of them are each client's.
        """
        self._write(TESTS, {"row": rows})
        self._tests = sizes

    def close(
        self,
        *,
        data: Mapping[str, Any],
        owners: Sequence[str] | None = None,
        transforms: Any = None,
        left_out: Sequence[LeftOut] = (),
        counts: Mapping[str, int] | None = None,
    ) -> Manifest:
        """Write the index and the manifest; the store is complete.

        Args:
            data: the data configuration and its seed, for people who wonder what this folder is.
            owners: natural owner of each client.
            transforms: statistics that the transforms used, JSON values.
            left_out: what the source had and these shards have not.
            counts: what the source counted, by name.
        """
        if self._train is None:
            raise ValueError("a shard store without clients cannot be written")
        self._files[TRAIN] = self._train.close()
        length, holdout = np.concatenate(self._sizes), np.concatenate(self._holdout)
        index = {"offset": np.cumsum(length + holdout) - length - holdout, "length": length, "holdout": holdout}
        if self._tests is not None:
            index["test"] = self._tests
        self._write(INDEX, index, owners)
        if self._histograms:
            self._write(HISTOGRAMS, {"count": np.concatenate(self._counts)})
        samples = {"train": int(length.sum()), "holdout": int(holdout.sum()), **self._samples}
        manifest = Manifest(
            self._info, len(length), samples, self._files, data, transforms, tuple(left_out), counts or {}
        )
        manifest.write(self._folder)
        return manifest

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._train is not None:
            self._train.__exit__(kind, error, at)

    def _write(self, name: str, arrays: Mapping[str, Array], owners: Sequence[str] | None = None) -> None:
        columns = {key: Column.of(values) for key, values in arrays.items()}
        values: dict[str, Any] = dict(arrays)
        if owners is not None:
            columns["owner"], values["owner"] = Column(TEXT), owners
        with ColumnWriter(self._folder / name, columns) as writer:
            writer.write(values)
            self._files[name] = writer.close()


def cut(sizes: Int64, limit: int) -> Iterator[tuple[int, int]]:
    """Cut clients into runs first … last-1 of at most `limit` samples; a client with more is a run of its own."""
    ends = np.cumsum(sizes)
    first = 0
    while first < len(sizes):
        room = int(ends[first] - sizes[first]) + limit
        last = max(first + 1, int(np.searchsorted(ends, room, side="right")))
        yield first, last
        first = last


def label_counts(labels: Array, sizes: Int64, holdout: Int64, classes: int) -> Array:
    """Label histogram of each client's training samples, int32 `[clients, classes]`.

    Args:
        labels: `[samples]` labels, client after client, held-out samples last.
        sizes: `[clients]` samples of each client, holdout included.
        holdout: `[clients]` how many of them are held out.
        classes: number of classes.
    """
    client = np.repeat(np.arange(len(sizes)), sizes)
    place = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    trained = place < (sizes - holdout)[client]
    cells = client[trained] * classes + labels[trained].astype(np.int64)
    return np.bincount(cells, minlength=len(sizes) * classes).astype(np.int32).reshape(len(sizes), classes)


def _columns(samples: Samples) -> dict[str, Column]:
    return {name: Column.of(values) for name, values in _values(samples, 0, 0).items()}


def _values(samples: Samples, start: int, stop: int) -> dict[str, Array]:
    values = {"x": samples.x[start:stop], "y": samples.y[start:stop]}
    if samples.weight is not None:
        values["weight"] = samples.weight[start:stop]
    return values
