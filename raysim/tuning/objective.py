"""The value of a trial: a number for each objective, from the rounds that it ran."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from raysim.config.tuning import ObjectiveConfig
from raysim.errors import ConfigError
from raysim.systems.recording import SECONDS
from raysim.tracking import OVER_CLIENTS, headline_metric, smaller_is_better

TOTALS = ("total/bytes", "total/wire_bytes", "total/steps", "total/samples", "total/virtual_seconds")


@dataclass(frozen=True, slots=True)
class TrialRound:
    """A committed round of a trial.

    Attributes:
        steps: local steps of its clients.
        samples: training samples of its clients.
        bytes: of the models sent to its clients and of the updates that they sent back.
        wire_bytes: of the same messages as a federation would encode them.
        virtual_seconds: since the round before.
    """

    number: int
    metrics: Mapping[str, float]
    steps: int
    samples: int
    bytes: int
    wire_bytes: int = 0
    virtual_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Goal:
    """One objective, with every `auto` resolved.

    Attributes:
        metric: a recorded metric, or one of `TOTALS`.
        upwards: whether the metric is better when larger; the objective itself may count what it takes instead.
        rounds: of a whole trial.
    """

    config: ObjectiveConfig
    metric: str
    upwards: bool
    rounds: int

    @property
    def maximise(self) -> bool:
        """Whether the objective is better when larger."""
        return self.upwards and not self.config.of.endswith("_to")

    @property
    def name(self) -> str:
        """What reports call it."""
        of, config = self.config.of, self.config
        if self.metric in TOTALS or of == "last":
            return self.metric
        if of.endswith("_to"):
            return f"{of.removesuffix('_to')} to {self.metric} {config.target:g}"
        return f"best {self.metric}" if of == "best" else f"mean of the last {config.last} {self.metric}"

    def value(self, rounds: Sequence[TrialRound]) -> float:
        """The objective's value over these rounds; NaN where nothing was measured.

        A target that was not reached counts as one round more than the trial had.
        """
        if self.metric in TOTALS:
            return float(sum(getattr(seen, self.metric.removeprefix("total/")) for seen in rounds))
        measured = [seen.metrics[self.metric] for seen in rounds if self.metric in seen.metrics]
        of = self.config.of
        if of.endswith("_to"):
            return self._cost(rounds)
        if not measured or any(math.isnan(value) for value in measured[-1:]):
            return math.nan
        if of == "best":
            known = [value for value in measured if not math.isnan(value)]
            return max(known) if self.upwards else min(known)
        return (
            measured[-1]
            if of == "last"
            else math.fsum(measured[-self.config.last :]) / len(measured[-self.config.last :])
        )

    def intermediate(self, rounds: Sequence[TrialRound]) -> float | None:
        """What a pruner compares after the last of these rounds, better in the objective's own direction."""
        if self.metric in TOTALS:
            return self.value(rounds)
        if not rounds or self.metric not in rounds[-1].metrics:
            return None
        if self.config.of == "mean":
            return self.value(rounds)
        value = rounds[-1].metrics[self.metric]
        if not self.config.of.endswith("_to"):
            return value
        assert self.config.target is not None
        return self.config.target - value if self.upwards else value - self.config.target

    def reached(self, rounds: Sequence[TrialRound]) -> bool:
        """Whether nothing more can change the objective: its target was reached."""
        return self.config.of.endswith("_to") and self._first(rounds) is not None

    def _first(self, rounds: Sequence[TrialRound]) -> int | None:
        """Index of the first round that reaches the target."""
        target = self.config.target
        assert target is not None
        for index, seen in enumerate(rounds):
            value = seen.metrics.get(self.metric, math.nan)
            if value >= target if self.upwards else value <= target:
                return index
        return None

    def _cost(self, rounds: Sequence[TrialRound]) -> float:
        first = self._first(rounds)
        counted = rounds if first is None else rounds[: first + 1]
        if self.config.of == "rounds_to":
            spent = float(counted[-1].number) if counted else 0.0
        else:
            spent = float(sum(getattr(seen, self.config.of.removesuffix("_to")) for seen in counted))
        return spent if first is not None else spent * (1 + 1 / max(len(rounds), 1))


def resolve_goals(objectives: Sequence[ObjectiveConfig], available: Sequence[str], rounds: int) -> tuple[Goal, ...]:
    """The objectives, checked against the metrics that a trial will record.

    Raises:
        ConfigError: a metric is not recorded, or is measured on samples that a study may not look at.
    """
    return tuple(_resolve(objective, available, rounds) for objective in objectives)


def _resolve(objective: ObjectiveConfig, available: Sequence[str], rounds: int) -> Goal:
    tests = ("test/", OVER_CLIENTS["test"])
    usable = [name for name in available if name.startswith(("validation/", "clients/")) and not name.startswith(tests)]
    if "virtual_seconds" in f"{objective.of} {objective.metric}" and SECONDS not in available:
        raise ConfigError("tuning.objective: there is no virtual time without devices; set systems.fleet")
    metric = objective.metric or headline_metric([name for name in usable if name.startswith("validation/")])
    if metric is None:
        raise ConfigError(
            "tuning.objective: there is no validation set to judge trials by; set data.validation, e.g. to 0.1"
        )
    if metric.startswith((*tests, "train/")):
        why = "the test set is for the confirmation" if metric.startswith(tests) else "it is what is trained on"
        raise ConfigError(f"tuning.objective: {metric}: {why}; use validation/… or clients/…")
    if metric not in (*usable, *TOTALS):
        remedy = (
            "set data.validation, e.g. to 0.1"
            if metric.startswith("validation/") and not any(name.startswith("validation/") for name in usable)
            else f"recorded are {', '.join([*usable, *TOTALS])}"
        )
        raise ConfigError(f"tuning.objective: {metric!r} is not recorded; {remedy}")
    if metric in TOTALS and objective.of != "last":
        raise ConfigError(f"tuning.objective: {metric} is a sum over the rounds; remove `of`")
    smaller = metric in TOTALS or smaller_is_better(metric)
    upwards = not smaller if objective.direction == "auto" else objective.direction == "maximise"
    return Goal(objective, metric, upwards, rounds)
