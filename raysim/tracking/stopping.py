"""When a run ends before its last round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from raysim.config import Experiment
from raysim.errors import ConfigError
from raysim.tracking.headline import headline_metric, improves, smaller_is_better


class Stopping:
    """Watches the metric that `stop` names. Its state follows from the rows alone: a resume shows it the rows again."""

    def __init__(self, experiment: Experiment, available: Sequence[str]) -> None:
        """Watch one of the metrics that the run will measure.

        Raises:
            ConfigError: the run does not measure `stop.metric`.
        """
        self.rules = experiment.stop
        if self.rules.metric is not None and self.rules.metric not in available:
            raise ConfigError(
                f"stop.metric: {self.rules.metric!r} is not measured; measured are {', '.join(available)}"
            )
        self.metric = headline_metric(available, experiment)
        self.best: float | None = None
        self.stale = self.wire_bytes = 0
        self.reached = False

    def see(self, metrics: Mapping[str, float]) -> None:
        """Take a round's metrics."""
        if self.metric is None or self.metric not in metrics:
            return
        value = metrics[self.metric]
        self.stale += 1
        if improves(self.metric, value, self.best):
            self.best, self.stale = value, 0
        target = self.rules.target
        if target is not None and (value <= target if smaller_is_better(self.metric) else value >= target):
            self.reached = True

    def sent(self, bytes: int) -> None:
        """Count the bytes of a round's messages, both ways."""
        self.wire_bytes += bytes

    def reason(self, seconds: float) -> str | None:
        """Why the run should end now, after `seconds`; None to go on."""
        if self.reached:
            return f"{self.metric} reached {self.rules.target}"
        if self.rules.patience is not None and self.stale >= self.rules.patience:
            return f"no improvement of {self.metric} in {self.stale} evaluations"
        if self.rules.seconds is not None and seconds >= self.rules.seconds:
            return f"{self.rules.seconds:g} seconds are over"
        if self.rules.wire_bytes is not None and self.wire_bytes >= self.rules.wire_bytes:
            return f"{self.wire_bytes:,} bytes were sent"
        return None
