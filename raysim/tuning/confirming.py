"""The confirmation: winner and baseline run again, on seeds that the study has not seen, and on the test set."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raysim.config import Experiment
from raysim.errors import RunError
from raysim.evaluation.ranges import EvaluationPlan
from raysim.execution.preparation.prepare import Prepared
from raysim.keyed import Purpose, integer
from raysim.tracking import headline_metric, smaller_is_better
from raysim.tuning.bench import Bench
from raysim.tuning.directory import StudyDirectory
from raysim.tuning.objective import Goal, TrialRound
from raysim.tuning.progress import StudyProgress
from raysim.tuning.searching import trial_experiment

BASELINE, WINNER = "baseline", "winner"


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The winner against the experiment as it stands, over the same seeds.

    Attributes:
        metric: on the test set, after the last round.
        baseline, winner: values, a seed each.
        difference: mean of winner - baseline.
        interval: of that mean, by Student's t on the paired differences.
    """

    metric: str
    seeds: tuple[int, ...]
    baseline: tuple[float, ...]
    winner: tuple[float, ...]
    difference: float
    interval: tuple[float, float]
    level: float

    @property
    def gains(self) -> bool:
        """Whether the winner is better by more than chance explains."""
        low, high = self.interval
        return high < 0 if smaller_is_better(self.metric) else low > 0

    def sentence(self) -> str:
        """The result in one line."""
        low, high = self.interval
        verdict = "better than" if self.gains else "no clear gain over"
        means = f"{np.mean(self.winner):.4f} against {np.mean(self.baseline):.4f}"
        return (
            f"{self.metric} {means} over {len(self.seeds)} fresh seeds: {self.difference:+.4f}, {self.level:.0%} "
            f"interval {low:+.4f} to {high:+.4f}: {verdict} the experiment as it stands"
        )


def confirmation_seeds(seed: int, count: int) -> tuple[int, ...]:
    """Seeds that no trial has."""
    return tuple(integer(seed, Purpose.CONFIRMATION, index) % 2**31 for index in range(count))


class Confirmation:
    """Runs what is missing of the confirmation; runs that are done are kept as they come."""

    def __init__(
        self,
        directory: StudyDirectory,
        bench: Bench,
        progress: StudyProgress,
        baseline: Experiment,
        winner: Experiment,
        number: int,
    ) -> None:
        """`number` is the winner's."""
        self._directory, self._bench, self._progress, self._number = directory, bench, progress, number
        self._experiments = {BASELINE: baseline, WINNER: winner}

    def run(self, metric: str, seeds: Sequence[int], level: float) -> Confirmed:
        """Run both on every seed.

        Raises:
            RunError: a run fails, or does not measure the metric.
        """
        kept = self._directory.read_confirmation()
        if kept.get("trial") != self._number or kept.get("metric") != metric:
            values = kept.get("values", {}) if kept.get("metric") == metric else {}
            kept = {"trial": self._number, "metric": metric, "values": {BASELINE: values.get(BASELINE, {}), WINNER: {}}}
        missing = [(who, seed) for seed in seeds for who in self._experiments if str(seed) not in kept["values"][who]]
        self._run(missing, metric, kept)
        found = {who: tuple(kept["values"][who][str(seed)] for seed in seeds) for who in self._experiments}
        confirmed = compared(metric, seeds, found[BASELINE], found[WINNER], level)
        self._directory.write_confirmation({**kept, "seeds": list(seeds), "level": level, **_figures(confirmed)})
        return confirmed

    def _run(self, missing: list[tuple[str, int]], metric: str, kept: dict[str, Any]) -> None:
        waiting, last, again = list(missing), dict[str, list[TrialRound]](), set[str]()
        running: dict[str, tuple[str, int]] = {}
        while waiting or running:
            while waiting and self._bench.room:
                who, seed = waiting.pop(0)
                key = f"{who}-{seed}"
                running[key], last[key] = (who, seed), []
                experiment = trial_experiment(self._experiments[who], tests=True, seed=seed)
                self._bench.start(key, experiment, str((self._directory.path / "confirm" / key).resolve()))
            report = self._bench.wait()
            who, seed = running[report.key]
            if report.progressed is None:
                del running[report.key]
                if not report.lost or report.key in again:
                    raise RunError(f"the confirmation of the {who} with seed {seed} failed: {report.failed}")
                again.add(report.key)
                waiting.insert(0, (who, seed))
                continue
            last[report.key] += report.progressed.rounds
            if report.progressed.finished:
                del running[report.key]
                kept["values"][who][str(seed)] = _final(last[report.key], metric)
                self._directory.write_confirmation(kept)
                self._progress.note(f"{who} with seed {seed}: {metric} {kept['values'][who][str(seed)]:.4f}")


def compared(
    metric: str, seeds: Sequence[int], baseline: Sequence[float], winner: Sequence[float], level: float
) -> Confirmed:
    """The paired comparison of equally many values, at least two."""
    from scipy.stats import t

    differences = np.subtract(winner, baseline)
    mean, count = float(differences.mean()), len(differences)
    half = float(t.ppf(0.5 + level / 2, count - 1) * differences.std(ddof=1) / math.sqrt(count))
    return Confirmed(metric, tuple(seeds), tuple(baseline), tuple(winner), mean, (mean - half, mean + half), level)


def read_confirmed(directory: StudyDirectory) -> Confirmed | None:
    """The confirmation of a study's folder; None where it is not complete."""
    kept = directory.read_confirmation()
    if "seeds" not in kept:
        return None
    seeds, values = kept["seeds"], kept["values"]
    found = {who: [values[who][str(seed)] for seed in seeds] for who in (BASELINE, WINNER)}
    return compared(kept["metric"], seeds, found[BASELINE], found[WINNER], kept["level"])


def _final(rounds: Sequence[TrialRound], metric: str) -> float:
    for seen in reversed(rounds):
        if metric in seen.metrics:
            return seen.metrics[metric]
    raise RunError(f"the confirmation measured no {metric}; set data.test, or tuning.confirm.seeds=0")


def _figures(confirmed: Confirmed) -> Mapping[str, Any]:
    return {"difference": confirmed.difference, "interval": list(confirmed.interval), "gains": confirmed.gains}


def confirmed_metric(prepared: Prepared, goal: Goal) -> str:
    """On the test set what the objective is on the validation set.

    Raises:
        RunError: there is no test set.
    """
    plan = EvaluationPlan.of(prepared.experiment, prepared.federation, prepared.metrics)
    metric = goal.metric
    if metric.startswith("validation/"):
        metric = "test/" + metric.removeprefix("validation/")
    elif metric.startswith("total/"):
        metric = headline_metric([name for name in plan.names if name.startswith("test/")]) or "test/loss"
    if prepared.experiment.tuning.confirm.seeds and metric not in plan.names:
        raise RunError("tuning.confirm: there is no test set to confirm on; set data.test, or tuning.confirm.seeds=0")
    return metric
