"""Which client actors can be given work: idle, busy, started again, or gone."""

from __future__ import annotations

import time
from typing import Any

from raysim.cluster.faults import FaultBook, first_line, unwrapped
from raysim.cluster.roster import Roster
from raysim.cluster.runtime import Runtime
from raysim.errors import DataError, LostError, RaysimError, RunError
from raysim.rounds.faults import Fault, to_blame


class AvailableActors:
    """The client actors of a run, and which of them are idle.

    An actor that died is sent a call that it answers once Ray has started it again; until then its work goes to
    others. One that Ray gives up, or that cannot read the data on its node, gets no more work.

    Attributes:
        idle: workers without work.
        restarting: the call that an actor answers once it is up, and its worker.
    """

    def __init__(self, runtime: Runtime, roster: Roster, book: FaultBook, wait_for_nodes: float) -> None:
        """All actors of the roster are idle.

        Args:
            wait_for_nodes: seconds to wait for a node with room for an actor, where there is none left.
        """
        self._runtime, self._ray, self.roster = runtime, runtime.ray, roster
        self._book, self._wait_for_nodes = book, wait_for_nodes
        self.idle = set(roster.workers)
        self.restarting: dict[Any, int] = {}

    def __len__(self) -> int:
        return len(self.roster.workers)

    def bits(self, max_retries: int) -> dict[int, dict[str, Any]]:
        """What each actor's bits depend on; waits until all are up. Those that cannot read their data are left out.

        Raises:
            PlacementError: some are not up after `start_seconds`: other work uses the cluster.
            DataError: no actor can read the data.
        """
        found: dict[int, dict[str, Any]] = {}
        unread: DataError | None = None
        for worker, call in self.roster.ask(max_retries).items():
            try:
                with unwrapped(self._ray):
                    found[worker] = self._runtime.get(call)
            except DataError as error:
                unread = error
                self._remove(worker, error)
        if unread is not None and not found:
            raise unread
        return found

    def idle_on(self, node: str) -> int | None:
        """The first idle worker on this node."""
        return min((worker for worker in self.idle if self.roster.node(worker) == node), default=None)

    def release(self, worker: int) -> None:
        """The actor is idle again, unless it is gone."""
        if worker in self.roster and worker not in self.restarting.values():
            self.idle.add(worker)

    def kill(self, worker: int) -> None:
        """Have Ray kill a hung actor and start it again. It gets work again when it answers."""
        if worker in self.roster:
            self._ray.kill(self.roster.actor(worker), no_restart=False)
            self.await_restart(worker)

    def await_restart(self, worker: int) -> None:
        """Give a dead actor work again once Ray has restarted it and it answers."""
        if worker in self.roster:
            self.restarting[self.roster.actor(worker).bits.options(max_task_retries=-1).remote()] = worker

    def answered(self, ready: Any) -> None:
        """One of those that were started again has answered: it is idle, or left out."""
        worker = self.restarting.pop(ready)
        try:
            with unwrapped(self._ray):
                bits = self._runtime.get(ready)
        except LostError:
            raise
        except (RaysimError, self._ray.exceptions.RayError) as error:
            self._remove(worker, error)
        else:
            if worker in self.roster and self.roster.admits(worker, bits):
                self.idle.add(worker)

    def refresh_nodes(self, *, now: bool = False) -> bool:
        """Remove workers whose nodes are gone and add those that joined; returns whether any joined."""
        change = self.roster.refresh(now=now)
        self.idle.difference_update(change.left)
        self.restarting = {ready: worker for ready, worker in self.restarting.items() if worker not in change.left}
        for worker in change.joined:
            self.await_restart(worker)  # like one that was started again, it gets work when it answers
        return bool(change.joined)

    def wait_for_new_ones(self) -> None:
        """No worker is left: wait for nodes that can hold actors.

        Raises:
            RunError: none came in time.
        """
        deadline = time.monotonic() + self._wait_for_nodes
        while not self.refresh_nodes(now=True):
            if time.monotonic() >= deadline:
                raise RunError(
                    f"every client actor is lost, and no node with room for one came within {self._wait_for_nodes:g} s "
                    "(execution.wait_for_nodes); resume the run on healthy nodes"
                )
            time.sleep(min(1.0, max(0.0, deadline - time.monotonic())))

    def _remove(self, worker: int, error: Exception) -> None:
        """Remove an actor that cannot work on its node, or that Ray gave up."""
        self.idle.discard(worker)
        if isinstance(error, RaysimError):
            self.roster.remove(worker)
        else:
            self.roster.failed(worker)
        kind = to_blame(error) if isinstance(error, RaysimError) else "died"
        self._book.say(Fault(kind, f"actor {worker}", first_line(error), "it gets no more work", 0))
