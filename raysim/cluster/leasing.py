"""A cohort cut into leases for the actors that are up: by class, by speed, or by whom the clients belong to."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pyarrow as pa

from raysim.cluster.roster import Roster
from raysim.cluster.training import Samples
from raysim.config.running import ExecutionConfig
from raysim.execution import CostModel, Lease, RoundTask, schedule_by_owner
from raysim.execution.assignment import assign
from raysim.execution.classes import ClientClasses


class Leasing:
    """Cuts leases by the costs of clients, whoever teaches those; and learns how fast each node is."""

    def __init__(self, roster: Roster, execution: ExecutionConfig, costs: CostModel, samples: Samples) -> None:
        self._roster, self._costs, self._samples = roster, costs, samples
        self._clients_per_actor, self._classes = execution.clients_per_actor, ClientClasses(execution)

    def cut(self, task: RoundTask, up: Collection[int]) -> tuple[dict[int, Lease], list[Lease]]:
        """The first lease of each worker, and those that wait for whoever is idle.

        Args:
            up: workers that would begin at once.
        """
        if self._clients_per_actor is not None:
            own = schedule_by_owner(task.clients // self._clients_per_actor)
            return {w: Lease.of(task, positions) for w, positions in enumerate(own.first) if len(positions)}, []
        group = np.zeros(len(task.clients), dtype=np.int64)
        if self._classes.several:
            group = self._classes.of(task.clients, self._samples(task.clients), task.steps)
        plan = assign(self._costs.seconds(task.steps), group, self._roster.crews(up))
        first = {w: Lease.of(task, positions, int(group[positions[0]])) for w, positions in plan.first.items()}
        return first, [Lease.of(task, positions, one) for one, positions in plan.rest]

    def learn(self, clients: pa.RecordBatch) -> None:
        """Learn from a finished round's clients (`CLIENT_SCHEMA`)."""
        expected = self._costs.seconds(clients["steps"].to_numpy())
        self._roster.learn(clients["worker"].to_numpy(), expected, clients["seconds"].to_numpy())
