"""What clients keep from round to round: a row of float32 for each, which an algorithm sees as named vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from raysim.algorithms import ClientVector
from raysim.arrays import Bools, Float32, Int64
from raysim.training import copy_into, to_device
from raysim.training.layout import TURN


@dataclass(frozen=True, slots=True)
class StateRows:
    """Rows of some clients as they travel: few large objects.

    Attributes:
        clients: ids, `[n]`.
        rows: float32 `[n, S]`.
    """

    clients: Int64
    rows: Float32


class ClientStates(Protocol):
    """The rows of a round's clients, wherever they are kept."""

    def read(self, clients: Int64) -> tuple[Float32, Bools]:
        """Rows `[n, S]` of one's own as the round found them, and which clients have one; the other rows are unset."""

    def write(self, clients: Int64, rows: Float32) -> None:
        """Rows as the round leaves them; what was read does not change before the round is committed."""


class StateLayout:
    """Where each vector lies in a client's row.

    Attributes:
        width: S, columns of a row; 0 where clients keep nothing.
    """

    def __init__(self, vectors: Sequence[ClientVector]) -> None:
        self._columns: dict[str, slice] = {}
        self._initial = {vector.name: vector.initial for vector in vectors}
        self.width = 0
        for vector in vectors:
            self._columns[vector.name] = slice(self.width, self.width + vector.size)
            self.width += -(-vector.size // TURN) * TURN

    def views(self, rows: Tensor) -> dict[str, Tensor]:
        """Views of rows `[k, S]` by name, each `[k, size]`."""
        return {name: rows[:, columns] for name, columns in self._columns.items()}

    def first(self, broadcast: Tensor) -> Tensor:
        """The row `[S]` of a client that has none yet, given the broadcast model `[P]`."""
        row = torch.zeros(self.width, device=broadcast.device)
        for name, columns in self._columns.items():
            initial = self._initial[name]
            if isinstance(initial, np.ndarray):
                row[columns] = broadcast[to_device(initial, broadcast.device)]
            elif initial == "model":
                row[columns] = broadcast[: columns.stop - columns.start]
        return row

    def taken_up(self, states: ClientStates, clients: Int64, broadcast: Tensor) -> Tensor:
        """The clients' rows `[k, S]` on the device of the broadcast model, in memory of their own."""
        found, known = states.read(clients)
        rows = torch.empty(found.shape, device=broadcast.device)  # torch allocates on boundaries, NumPy does not
        copy_into(rows, found)
        if not known.all():
            rows[to_device(np.flatnonzero(~known), rows.device)] = self.first(broadcast)
        return rows


class CarriedStates:
    """Rows that came with a lease, and those that go back with its report."""

    def __init__(self, width: int, parts: Sequence[StateRows]) -> None:
        self._width, self._parts = width, parts
        self._place = {client: (p, i) for p, part in enumerate(parts) for i, client in enumerate(part.clients.tolist())}
        self._written: list[StateRows] = []

    def read(self, clients: Int64) -> tuple[Float32, Bools]:
        rows, known = np.empty((len(clients), self._width), np.float32), np.zeros(len(clients), dtype=bool)
        for i, client in enumerate(clients.tolist()):
            if client in self._place:
                part, row = self._place[client]
                rows[i], known[i] = self._parts[part].rows[row], True
        return rows, known

    def write(self, clients: Int64, rows: Float32) -> None:
        self._written.append(StateRows(clients, rows))

    def written(self) -> StateRows:
        """All that was written, as one object."""
        clients = [part.clients for part in self._written]
        if not clients:
            return StateRows(np.empty(0, np.int64), np.empty((0, self._width), np.float32))
        return StateRows(np.concatenate(clients), np.concatenate([part.rows for part in self._written]))


def split_vectors(sizes: Mapping[str, int], vector: Tensor) -> dict[str, Tensor]:
    """Vectors that travel as one, `[Σ size]`, by name."""
    parts = torch.split(vector, list(sizes.values()))
    return dict(zip(sizes, parts, strict=True))
