"""What a display shows of a run: which metrics, how fast it goes, the best value so far."""

from __future__ import annotations

import time

from raysim.config import Experiment
from raysim.rounds.rows import RoundRow
from raysim.tracking.headline import headline_metric, improves
from raysim.tracking.metric_names import parts_of
from raysim.tracking.units import rate


class Shown:
    """Which of a round's metrics are worth room in a terminal; the report has all.

    Of the many summaries over clients only the worst tenth and who is worse off than alone, and no class by itself;
    what the run stops by in any case.
    """

    def __init__(self, experiment: Experiment) -> None:
        self._asked_for = experiment.stop.metric

    def __contains__(self, metric: str) -> bool:
        parts = parts_of(metric)
        if metric == self._asked_for:
            return True
        if not parts.summary:
            return not parts.of_class
        return parts.summary in ("worst10", "below_local") and parts.family != "loss" and not parts.of_class


class Pace:
    """How fast a run goes and how long it has left, from the rounds seen in this sitting."""

    def __init__(self, rounds: int, after_round: int) -> None:
        """A run of `rounds` rounds, of which `after_round` are done."""
        self.rounds = rounds
        self.done = after_round
        self._first = after_round
        self._clients = self._tokens = 0
        self._since = time.monotonic()

    def see(self, row: RoundRow) -> None:
        """Count a committed round."""
        self.done = row.round
        self._clients += row.trained
        self._tokens += row.tokens

    @property
    def speeds(self) -> list[str]:
        """What is trained a second by the clock: clients, and tokens where samples have any."""
        spent = max(time.monotonic() - self._since, 1e-9)
        clients = f"{rate(self._clients / spent)} clients/s"
        return [clients, f"{rate(self._tokens / spent)} tokens/s"] if self._tokens else [clients]

    @property
    def left(self) -> float | None:
        """Seconds until the last round at the pace so far; None before the first round and after the last."""
        seen, left = self.done - self._first, self.rounds - self.done
        if seen <= 0 or left <= 0:
            return None
        return (time.monotonic() - self._since) / seen * left


class Best:
    """The headline metric of a run as rounds come in, and its best value so far."""

    def __init__(self, experiment: Experiment) -> None:
        """Nothing measured yet."""
        self._experiment = experiment
        self.metric: str | None = None
        self.last: float | None = None
        self.best: float | None = None
        self.round = 0

    def see(self, row: RoundRow) -> None:
        """Take the round's value, if it has one. The first round that was evaluated decides what is looked at."""
        found = headline_metric(row.metrics, self._experiment)
        if found is not None and (self.metric is None or self.metric.startswith("train/")) and found != self.metric:
            self.metric, self.best = found, None
        if self.metric is None or self.metric not in row.metrics:
            return
        self.last = row.metrics[self.metric]
        if improves(self.metric, self.last, self.best):
            self.best, self.round = self.last, row.round
