"""The messages of a rule's protocol, before and after the training of a round."""

from __future__ import annotations

from dataclasses import replace

from raysim.aggregation import Ask, RoundProtocol, SumOpening
from raysim.arrays import Int32
from raysim.rounds.task import RoundTask


class Messages:
    """A protocol in the rounds of an experiment; where the rule has none, nothing is said.

    Attributes:
        protocol: of the rule.
    """

    def __init__(self, protocol: RoundProtocol | None, seed: int, ask: Ask) -> None:
        """`ask` puts a question to the clients, wherever they are."""
        self.protocol, self._seed, self._ask = protocol, seed, ask

    def begin(self, task: RoundTask) -> RoundTask:
        """The round with what its leases carry.

        Raises:
            RunError: too few clients answer.
        """
        if self.protocol is None or not len(task.clients):
            return task
        return replace(task, begun=self.protocol.begin(self._seed, task.round, task.clients, self._ask))

    def end(self, task: RoundTask, contributed: Int32) -> SumOpening | None:
        """What opens the sum of the clients at these positions.

        Raises:
            RunError: too few clients answer.
        """
        if self.protocol is None or task.begun is None or not len(contributed):
            return None
        return self.protocol.end(self._seed, task.round, task.begun, contributed, self._ask)
