"""What clients keep from round to round, on the nodes where they train: a keeper a node, each client with one of them.

A client's row lies on the node where it trained last. Rows travel through the object store, one object for each lease
and keeper: on its own node a lease reads them from shared memory, and a client that goes elsewhere takes its row along.
So leases go to their rows (`Leasing`), and so do evaluations of clients' own models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raysim.arrays import Int64
from raysim.cluster.faults import first_line
from raysim.cluster.runtime import Runtime
from raysim.config.running import ExecutionConfig
from raysim.errors import RunError
from raysim.execution.clients.state import StateRows
from raysim.execution.clients.state_store import StateStore, load_pieces, save_piece
from raysim.execution.scheduling.schedule import StateLocations
from raysim.rounds.faults import CallFailure
from raysim.rounds.lease import NO_CLIENTS

PROBE_SECONDS = 10.0
"""How long a keeper may take to say that it lives."""


class StateKeeper:
    """An actor around a node's store. It alone keeps something between calls: without it, the run cannot go on."""

    def __init__(self, population: int, width: int, memory: int, scratch: str | None) -> None:
        self._store, self._width = StateStore(population, width, memory, scratch), width

    def alive(self) -> None:
        """Only an answer."""

    def read(self, clients: Int64, version: int) -> StateRows:
        """The rows of clients that have one here."""
        rows, known = self._store.read(clients, version)
        assert known.all(), "the driver asks only for what is here"
        return StateRows(clients, rows)

    def write(self, round_number: int, written: StateRows) -> None:
        """Stage a lease's rows."""
        self._store.write(round_number, written.clients, written.rows)

    def let_go(self, round_number: int, clients: Int64) -> None:
        """Another keeper has them, as of this round."""
        self._store.let_go(round_number, clients)

    def roll_back(self, version: int) -> None:
        """Throw away what was staged after a round."""
        self._store.roll_back(version)

    def pieces(self, version: int) -> int:
        """Pieces that the rows after a round come in."""
        return self._store.pieces(version)

    def piece(self, version: int, number: int) -> StateRows:
        """One of them."""
        return self._store.piece(version, number)

    def save(self, folder: str, number: int, piece: StateRows) -> None:
        """Write a piece, of this keeper or another, into a checkpoint's folder."""
        save_piece(folder, number, piece)

    def load(self, folder: str) -> Int64:
        """Keep what is in a checkpoint's folder and nothing else; whose it is."""
        self._store.clear()
        clients: list[Int64] = [np.empty(0, np.int64)]
        for piece in load_pieces(folder, self._width):
            self._store.write(0, piece.clients, piece.rows)
            clients.append(piece.clients)
        return np.concatenate(clients)


@dataclass(frozen=True, slots=True)
class Written:
    """What a lease left: a reference to its rows, whose they are, and who made them on which node."""

    rows: Any
    clients: Int64
    node: str
    worker: int


class NodeStates:
    """The keepers of a run, and which of them has whose row.

    Calls of one caller to one actor are done in order: what is read for a round was staged by the round before.
    """

    def __init__(
        self,
        runtime: Runtime,
        nodes: Sequence[str],
        execution: ExecutionConfig,
        population: int,
        width: int,
        wait: Callable[[Any], Any],
    ) -> None:
        """`wait` gets a reference's value and raises raysim's own errors as they are."""
        self.width, self._wait_for = width, wait
        self._ray, self._runtime = runtime.ray, runtime
        self._store = (population, width, execution.state_memory, execution.scratch)
        self._names: list[str] = []
        self._keepers: list[Any] = []
        for node in (runtime.home, *nodes):
            self._at(node)
        self._home, self._last = (np.full(population, -1, dtype=np.int32) for _ in range(2))
        self._round, self._before = 0, (NO_CLIENTS, self._home[NO_CLIENTS], self._last[NO_CLIENTS])
        self._moved = 0

    def _at(self, node: str) -> int:
        """Which keeper is this node's; one that joined the run gets its own."""
        if node not in self._names:
            # No CPU: client actors may hold them all. Not restarted: it would come back with nothing, and not say so.
            actor = self._ray.remote(StateKeeper).options(
                num_cpus=0, max_restarts=0, scheduling_strategy=self._runtime.pinned(node)
            )
            self._names.append(node)
            self._keepers.append(actor.remote(*self._store))
        return self._names.index(node)

    def locations(self, clients: Int64, nodes: Mapping[int, str]) -> StateLocations | None:
        """Where the rows of these clients lie; None where they have none.

        Args:
            nodes: of all workers.
        """
        client, last = self._home[clients].astype(np.int64), self._last[clients].astype(np.int64)
        if (client < 0).all():
            return None
        worker = np.full(max([*nodes, int(last.max())]) + 1, -1)
        for index, node in nodes.items():
            if node in self._names:
                worker[index] = self._names.index(node)
        return StateLocations(client, last, worker)

    def by_node(self, clients: Int64) -> dict[str, Int64]:
        """Clients with a row, by the node that has it."""
        home = self._home[clients]
        return {self._names[index]: clients[home == index] for index in np.unique(home[home >= 0]).tolist()}

    def home(self, clients: Int64) -> str | None:
        """The node with most of the rows of these clients."""
        found = self.by_node(clients)
        return max(found, key=lambda node: len(found[node]), default=None)

    def moved(self) -> int:
        """Bytes of rows that were sent from one node to another since this was asked last."""
        moved, self._moved = self._moved, 0
        return moved

    def read(self, clients: Int64, version: int, node: str) -> list[Any]:
        """References to the rows of these clients, one for each keeper that has some; who has none is left out.

        Args:
            node: where they are needed.
        """
        home = self._home[clients]
        away = home[home >= 0] != (self._names.index(node) if node in self._names else -1)
        self._moved += 4 * self.width * int(away.sum())
        return [
            self._keepers[index].read.remote(clients[home == index], version)
            for index in np.unique(home[home >= 0]).tolist()
        ]

    def write(self, round_number: int, leases: Sequence[Written]) -> None:
        """Stage the rows of a round; they become final when those of the next are staged.

        Raises:
            RunError: a node's disk refuses.
        """
        if round_number == self._round:  # its step was lost, and some of it was trained again
            self.roll_back(round_number - 1)
        clients = np.concatenate([NO_CLIENTS, *(one.clients for one in leases)])
        self._round, self._before = round_number, (clients, self._home[clients], self._last[clients])
        calls = []
        for one in leases:
            here = self._at(one.node)
            calls.append(self._keepers[here].write.remote(round_number, one.rows))
            before = self._home[one.clients]
            for index in np.unique(before[(before >= 0) & (before != here)]).tolist():
                calls.append(self._keepers[index].let_go.remote(round_number, one.clients[before == index]))
            self._home[one.clients], self._last[one.clients] = here, one.worker
        for call in calls:
            self._wait(call)

    def roll_back(self, version: int) -> None:
        """Throw away what was staged after a round."""
        if self._round > version:
            clients, home, last = self._before
            self._home[clients], self._last[clients] = home, last
            self._round = 0
        for keeper in self._keepers:
            keeper.roll_back.remote(version)

    def save(self, folder: str, version: int) -> None:
        """Write the rows after a round into a checkpoint's folder, on the driver's node, a piece at a time."""
        number = 0
        for keeper in self._keepers:
            for index in range(self._wait(keeper.pieces.remote(version))):
                self._wait(self._keepers[0].save.remote(folder, number, keeper.piece.remote(version, index)))
                number += 1

    def load(self, folder: str) -> None:
        """Take up a checkpoint's rows: all on the driver's node, from where they move to where their clients train.

        Raises:
            RunError: they are of another algorithm or model.
        """
        self._home.fill(-1)
        self._last.fill(-1)
        self._home[self._wait(self._keepers[0].load.remote(folder))] = 0

    def _wait(self, reference: Any) -> Any:
        try:
            return self._wait_for(reference)
        except self._ray.exceptions.RayActorError as error:
            raise _lost(error) from error

    def fatal_error(self, failure: CallFailure) -> RunError | None:
        """The error that ends the run, if this failure comes from a keeper that is gone."""
        if not isinstance(getattr(failure.error, "cause", None), self._ray.exceptions.RayActorError):
            return None
        for keeper in self._keepers:
            try:
                self._ray.get(keeper.alive.remote(), timeout=PROBE_SECONDS)
            except self._ray.exceptions.RayActorError as error:
                return _lost(error)
            except self._ray.exceptions.GetTimeoutError:  # it is busy
                continue
        return None

    def close(self) -> None:
        """Stop the keepers; their files go with them."""
        for keeper in self._keepers:
            self._ray.kill(keeper)


@dataclass(frozen=True, slots=True)
class KeptAfter:
    """What clients keep, as it is after a round."""

    states: NodeStates
    version: int

    def read(self, clients: Int64, node: str) -> list[Any]:
        """References to the rows of these clients, which are needed on this node."""
        return self.states.read(clients, self.version, node)


def _lost(error: Exception) -> RunError:
    return RunError(
        f"what clients keep on one of the nodes is lost ({first_line(error)}); resume the run from its last checkpoint"
    )
