"""A store of the clients' rows: in memory up to a budget, the rest in files that are mapped, and two versions deep.

A round's rows are staged beside those that it read; they replace them when the next round is staged. Until then the
store can be read, or saved, as it was before the round, and as it is after it: a round that is not committed, because
it failed or because it was no longer wanted, leaves nothing behind.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from raysim.arrays import Bools, Float32, Int64
from raysim.errors import RunError, StorageError
from raysim.execution.clients.state import StateRows
from raysim.rounds.vectors import read_vectors, save_vectors

CHUNK_BYTES = 16 * 1024 * 1024
"""The store grows by so much at a time."""
PIECE_BYTES = 64 * 1024 * 1024
"""What is saved, or travels, at a time."""

_NONE = -1


class StateStore:
    """Rows `[S]` of float32 by client.

    Args:
        population: clients that there are; 8 bytes for each.
        width: S.
        memory: bytes of rows to hold in memory. The rest goes to files without a name in `scratch`, which the system
            removes when the process ends, however it ends.
    """

    def __init__(self, population: int, width: int, memory: int, scratch: str | None = None) -> None:
        self._width, self._memory, self._scratch = width, memory, scratch
        self._slots: Int64 = np.full(population, _NONE, dtype=np.int64)
        self._staged: dict[int, int] = {}
        self._round = 0
        self._chunks: list[Float32] = []
        self._a_chunk = max(1, CHUNK_BYTES // (4 * width))
        self._free: list[int] = []

    def read(self, clients: Int64, version: int) -> tuple[Float32, Bools]:
        """Rows `[n, S]` as they were after round `version`, in memory of their own, and which clients have one."""
        slots = self._seen_at(clients, version)
        rows = np.empty((len(clients), self._width), dtype=np.float32)
        for i in np.flatnonzero(slots != _NONE).tolist():
            rows[i] = self._row(int(slots[i]))
        return rows, slots != _NONE

    def write(self, round_number: int, clients: Int64, rows: Float32) -> None:
        """Stage rows `[n, S]` of a round; with its first ones, the round before becomes final.

        Raises:
            StorageError: the disk refuses.
        """
        self._stage(round_number)
        for client, row in zip(clients.tolist(), rows, strict=True):
            if self._staged.get(client, _NONE) == _NONE:
                self._staged[client] = self._take_slot()
            self._row(self._staged[client])[:] = row

    def let_go(self, round_number: int, clients: Int64) -> None:
        """Forget these clients as of this round: another store keeps them."""
        self._stage(round_number)
        for client in clients.tolist():
            self._give_back(self._staged.get(client, _NONE))
            self._staged[client] = _NONE

    def roll_back(self, version: int) -> None:
        """Throw away what was staged after round `version`."""
        if self._round > version:
            for slot in self._staged.values():
                self._give_back(slot)
            self._staged.clear()
            self._round = 0

    def clear(self) -> None:
        """Forget everything."""
        self._slots.fill(_NONE)
        self._staged.clear()
        self._round = 0
        self._free = list(range(len(self._chunks) * self._a_chunk - 1, -1, -1))

    def count(self, version: int) -> int:
        """Clients with a row after round `version`."""
        return len(self._clients(version))

    def pieces(self, version: int) -> int:
        """Pieces that the rows after round `version` come in."""
        return -(-self.count(version) // self._a_piece)

    def piece(self, version: int, number: int) -> StateRows:
        """One of these pieces, from 0: clients in ascending order."""
        clients = self._clients(version)[number * self._a_piece : (number + 1) * self._a_piece]
        return StateRows(clients, self.read(clients, version)[0])

    @property
    def _a_piece(self) -> int:
        return max(1, PIECE_BYTES // (4 * self._width))

    def _clients(self, version: int) -> Int64:
        known: Int64 = np.flatnonzero(self._slots != _NONE)
        if version >= self._round and self._staged:
            known = np.union1d(known, np.fromiter(self._staged, np.int64, len(self._staged)))
            known = known[self._seen_at(known, version) != _NONE]
        return known

    def _seen_at(self, clients: Int64, version: int) -> Int64:
        slots: Int64 = self._slots[clients]
        if version >= self._round and self._staged:
            for i, client in enumerate(clients.tolist()):
                slots[i] = self._staged.get(client, int(slots[i]))
        return slots

    def _stage(self, round_number: int) -> None:
        if round_number == self._round:
            return
        if round_number < self._round:
            raise ValueError(f"rows of round {round_number} after those of round {self._round}")
        for client, slot in self._staged.items():
            self._give_back(int(self._slots[client]))
            self._slots[client] = slot
        self._staged.clear()
        self._round = round_number

    def _take_slot(self) -> int:
        if not self._free:
            first = len(self._chunks) * self._a_chunk
            self._chunks.append(self._new_chunk())
            self._free.extend(range(first + self._a_chunk - 1, first - 1, -1))
        return self._free.pop()

    def _give_back(self, slot: int) -> None:
        if slot != _NONE:
            self._free.append(slot)

    def _new_chunk(self) -> Float32:
        shape = (self._a_chunk, self._width)
        nbytes = 4 * self._a_chunk * self._width
        if (len(self._chunks) + 1) * nbytes <= self._memory:
            return np.empty(shape, dtype=np.float32)
        try:
            with tempfile.TemporaryFile(prefix="raysim-clients-", dir=self._scratch) as file:
                _allocate(file.fileno(), nbytes)
                return np.memmap(file, dtype=np.float32, mode="r+", shape=shape)  # it keeps the file without the name
        except OSError as error:
            where = self._scratch or tempfile.gettempdir()
            raise StorageError(
                f"execution.scratch: cannot keep what clients remember in {where} ({error.strerror or error}); "
                "name a folder with room"
            ) from error

    def _row(self, slot: int) -> Float32:
        row: Float32 = self._chunks[slot // self._a_chunk][slot % self._a_chunk]
        return row


def _allocate(file: int, nbytes: int) -> None:
    """Take the room of a file now: a map of a file with holes kills the process when the disk is full."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, nbytes)
    else:
        os.write(file, bytes(nbytes))


class StoredStates:
    """A round's view of a store in the same process."""

    def __init__(self, store: StateStore, version: int, round_number: int) -> None:
        self._store, self._version, self._round = store, version, round_number

    def read(self, clients: Int64) -> tuple[Float32, Bools]:
        return self._store.read(clients, self._version)

    def write(self, clients: Int64, rows: Float32) -> None:
        self._store.write(self._round, clients, rows)


def save_piece(folder: str, number: int, piece: StateRows) -> None:
    """Write a piece into a checkpoint's folder.

    Raises:
        OSError: the disk refuses.
    """
    save_vectors(Path(folder) / f"clients-{number:05d}.safetensors", {"clients": piece.clients, "rows": piece.rows})


def load_pieces(folder: str, width: int) -> Iterator[StateRows]:
    """The pieces of a checkpoint's folder.

    Raises:
        RunError: they are damaged, or of another algorithm or model.
    """
    for path in sorted(Path(folder).glob("clients-*.safetensors")):
        found = read_vectors(path)
        if set(found) != {"clients", "rows"}:
            raise RunError(f"{path}: has not clients and rows, but {', '.join(sorted(found)) or 'nothing'}")
        clients, rows = found["clients"], found["rows"]
        kept = rows.shape[1] if rows.ndim == 2 else 0
        if kept != width:
            raise RunError(f"{path}: a client keeps {kept} values there, and {width} in this run")
        if rows.dtype != np.float32 or clients.dtype != np.int64 or clients.shape != rows.shape[:1]:
            raise RunError(f"{path}: has not a row of float32 for each of its clients")
        yield StateRows(clients, rows)
