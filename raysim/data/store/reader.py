"""A federation on disk: memory-mapped shards that every process of a machine shares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from raysim.arrays import Array, Int64
from raysim.data.federation import ClientPart, Federation, Samples, ServerPart
from raysim.data.left_out import LeftOut
from raysim.data.store.manifest import HISTOGRAMS, INDEX, SERVER_FILES, TESTS, TRAIN, Manifest
from raysim.data.store.mapped import MappedColumns
from raysim.errors import DataError


@dataclass(frozen=True, slots=True)
class StoreSpec:
    """Where a store is, and what must be in it."""

    path: str
    fingerprint: str

    def open(self) -> ArrowFederation:
        """Open it; cheap, memory-mapped.

        Raises:
            DataError: the store is missing, truncated or foreign, or holds other samples than it did.
        """
        federation = ArrowFederation(self.path)
        if federation.fingerprint != self.fingerprint:
            raise DataError(
                f"{self.path}: holds other samples than when this run was planned (fingerprint "
                f"{federation.fingerprint[:12]}, expected {self.fingerprint[:12]}); start a new run"
            )
        return federation


class ArrowFederation(Federation):
    """The shards of a store. A client's shard is one zero-copy, read-only view per column."""

    def __init__(self, path: str | Path) -> None:
        """Open a store; reads the manifest and the files' footers.

        Raises:
            DataError: it is missing, truncated, foreign, or of another format version.
        """
        self.path = Path(path)
        self.manifest = Manifest.read(self.path)
        self.info = self.manifest.info
        self.population = self.manifest.clients
        self.fingerprint = self.manifest.fingerprint
        self._files = {name: MappedColumns(self.path / name, entry) for name, entry in self.manifest.files.items()}
        for name in (TRAIN, INDEX):
            if name not in self._files:
                raise DataError(f"{self.path}: {name} is not in the manifest; delete the folder, it is built again")
        index = self._files[INDEX].all()
        self._offset, self._length, self._holdout = (index[name] for name in ("offset", "length", "holdout"))
        self._test = index.get("test")
        self._test_end = None if self._test is None else np.cumsum(self._test)

    def sizes(self, part: ClientPart = "train", clients: Int64 | None = None) -> Int64:
        """Number of samples of these clients (default: of all), int64 `[len(clients)]`."""
        if part == "test":
            sizes = np.zeros_like(self._length) if self._test is None else self._test
        else:
            sizes = self._length if part == "train" else self._holdout
        return sizes if clients is None else sizes[clients]

    def shard(self, client: int, part: ClientPart = "train") -> Samples:
        """The samples of one client, as views of the memory map; those of the test set are copied, unless they are
        side by side there.

        Raises:
            DataError: there is no such client, or the file is damaged.
        """
        if not 0 <= client < self.population:
            raise DataError(f"{self.path}: there is no client {client}; clients are 0 to {self.population - 1}")
        if part == "test":
            return self._own_tests(client)
        start = int(self._offset[client])
        middle = start + int(self._length[client])
        stop = middle + int(self._holdout[client])
        return _samples(self._files[TRAIN].rows(*((start, middle) if part == "train" else (middle, stop))))

    def _own_tests(self, client: int) -> Samples:
        if self._test is None or self._test_end is None:
            return self.shard(client).slice(0, 0)
        end = int(self._test_end[client])
        rows = self._files[TESTS].rows(end - int(self._test[client]), end)["row"]
        columns = self._files[SERVER_FILES["test"]].all()
        side_by_side = len(rows) and int(rows[-1] - rows[0]) == len(rows) - 1  # they ascend
        chosen = slice(int(rows[0]), int(rows[-1]) + 1) if side_by_side else rows
        return _samples({name: values[chosen] for name, values in columns.items()})

    def server(self, part: ServerPart) -> Samples | None:
        """The server's validation or test set; None if there is none."""
        file = self._files.get(SERVER_FILES[part])
        return None if file is None else _samples(file.all())

    def histograms(self) -> Array | None:
        """Label histogram of each client's training samples, int32 `[population, classes]`; None where not stored."""
        file = self._files.get(HISTOGRAMS)
        return None if file is None else file.all()["count"]

    def left_out(self) -> tuple[LeftOut, ...]:
        """What the source had and the shards have not."""
        return self.manifest.left_out

    def counts(self) -> Mapping[str, int]:
        """What the source counted, by name."""
        return self.manifest.counts

    def owner(self, client: int) -> str | None:
        """The natural owner that a client stands for: a writer, a role; None where clients are made up."""
        if "owner" not in self.manifest.files[INDEX].columns:
            return None
        name: str = self._files[INDEX].strings("owner")[client].as_py()
        return name

    def verify(self) -> None:
        """Read every file whole and compare checksums.

        Raises:
            DataError: a file is damaged; names it.
        """
        for file in self._files.values():
            file.verify()
        self._check_index()

    def verify_index(self) -> None:
        """Compare checksums of what says who holds what: a few numbers a client, where the samples may be terabytes.

        Raises:
            DataError: the index or the histograms are damaged; names the file.
        """
        for name in (INDEX, HISTOGRAMS, TESTS):
            if name in self._files:
                self._files[name].verify(text=False)
        self._check_index()

    def _check_index(self) -> None:
        if int(self._length.sum() + self._holdout.sum()) != self.manifest.files[TRAIN].rows or np.any(self._length < 0):
            raise DataError(f"{self.path / INDEX}: does not fit {TRAIN}; delete the folder, it is built again")
        if self._test is not None:
            entry, test = self.manifest.files.get(TESTS), self.manifest.files.get(SERVER_FILES["test"])
            rows = self._files[TESTS].all()["row"] if entry is not None else self._test[:0]
            if entry is None or test is None or int(self._test.sum()) != entry.rows or (self._test < 0).any():
                raise DataError(f"{self.path / INDEX}: does not fit {TESTS}; delete the folder, it is built again")
            if ((rows < 0) | (rows >= test.rows)).any():
                raise DataError(f"{self.path / TESTS}: does not fit the test set; delete the folder, it is built again")


def _samples(columns: dict[str, Array]) -> Samples:
    return Samples(columns["x"], columns["y"], columns.get("weight"))
