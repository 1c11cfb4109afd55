"""How long a call to an actor may take before the actor counts as hung."""

from __future__ import annotations

from raysim.arrays import Int64
from raysim.config.faults import FaultsConfig
from raysim.execution.scheduling.schedule import CostModel
from raysim.rounds.lease import LeaseReport

MARGIN = 10.0
"""How much longer than expected a call may take: other work on the machine slows it down, too."""

UNMEASURED = 12.0
"""How much longer than the least deadline a call may take before anything is known of such calls."""


class Deadlines:
    """Seconds for calls, from what calls before them took."""

    def __init__(self, faults: FaultsConfig) -> None:
        self._faults = faults
        self._clients: CostModel | None = None
        self._longest: dict[str, float] = {}

    def training(self, steps: Int64) -> float:
        """For a lease of clients with these steps, `[n]`."""
        return self._limit(None if self._clients is None else float(self._clients.seconds(steps).sum()))

    def of(self, what: str, times: int = 1) -> float:
        """For `count` units of something that is measured by `saw`."""
        longest = self._longest.get(what)
        return self._limit(None if longest is None else longest * times)

    def saw_training(self, report: LeaseReport) -> None:
        """Learn from a finished lease."""
        self._clients = self._clients or CostModel()
        self._clients.observe(report.facts["steps"].to_numpy(), report.facts["seconds"].to_numpy())

    def saw(self, what: str, seconds: float, times: int = 1) -> None:
        """Learn from `count` units of something; the longest counts."""
        self._longest[what] = max(self._longest.get(what, 0.0), seconds / times)

    def _limit(self, expected: float | None) -> float:
        if self._faults.deadline != "auto":
            return self._faults.deadline
        least = self._faults.least_deadline
        return UNMEASURED * least if expected is None else max(least, MARGIN * expected)
