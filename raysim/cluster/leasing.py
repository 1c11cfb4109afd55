"""A cohort cut into leases for the actors that are up: by class, by speed, by where clients' rows lie, or by the
actor that the clients belong to."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np
import pyarrow as pa

from raysim.cluster.roster import Roster
from raysim.cluster.states import NodeStates
from raysim.cluster.training import Samples
from raysim.config.running import ExecutionConfig
from raysim.execution.placement.classes import ClientClasses
from raysim.execution.placement.memory import LEASE_STATE_BYTES
from raysim.execution.scheduling.assignment import assign
from raysim.execution.scheduling.schedule import CostModel, schedule_by_owner
from raysim.rounds.lease import Lease
from raysim.rounds.task import RoundTask


class Leasing:
    """Cuts leases by the predicted costs of clients, and learns how fast each node is."""

    def __init__(
        self,
        roster: Roster,
        execution: ExecutionConfig,
        costs: CostModel,
        samples: Samples,
        states: NodeStates | None = None,
    ) -> None:
        """Leases go where their clients' `states` are, and are cut where those would exceed `LEASE_STATE_BYTES`."""
        self._roster, self._costs, self._samples, self._states = roster, costs, samples, states
        self._clients_per_actor, self._classes = execution.clients_per_actor, ClientClasses(execution)

    def cut(self, task: RoundTask, up: Collection[int]) -> tuple[dict[int, Lease], list[Lease]]:
        """The first lease of each worker, and those that wait for an idle one.

        Args:
            up: workers that would begin at once.
        """
        if self._clients_per_actor is not None:
            own = schedule_by_owner(task.clients // self._clients_per_actor)
            return {w: Lease.of(task, positions) for w, positions in enumerate(own.first) if len(positions)}, []
        group = np.zeros(len(task.clients), dtype=np.int64)
        if self._classes.several:
            group = self._classes.of(task.clients, self._samples(task.clients), task.steps)
        locations = None
        if self._states is not None:
            locations = self._states.locations(task.clients, {w: self._roster.node(w) for w in self._roster.workers})
        plan = assign(self._costs.seconds(task.steps), group, self._roster.eligible(up), locations)
        first = {w: Lease.of(task, positions, int(group[positions[0]])) for w, positions in plan.first.items()}
        rest = [Lease.of(task, positions, one) for one, positions in plan.rest]
        if self._states is None:
            return first, rest
        most = max(1, LEASE_STATE_BYTES // (4 * self._states.width))
        pieces = {worker: lease.cut(most) for worker, lease in first.items()}
        beyond = [piece for whole in pieces.values() for piece in whole[1:]]
        beyond += [piece for lease in rest for piece in lease.cut(most)]
        beyond = [replace(lease, home=self._states.home(lease.clients)) for lease in beyond]
        return {worker: whole[0] for worker, whole in pieces.items()}, beyond

    def learn(self, clients: pa.RecordBatch) -> None:
        """Learn from a finished round's clients (`CLIENT_SCHEMA`)."""
        expected = self._costs.seconds(clients["steps"].to_numpy())
        self._roster.learn(clients["worker"].to_numpy(), expected, clients["seconds"].to_numpy())
