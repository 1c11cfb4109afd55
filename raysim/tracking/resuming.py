"""What a resumed run must have in common with the one that it continues."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raysim.config import Experiment
from raysim.config.client import CosineConfig, StepScheduleConfig
from raysim.errors import RunError
from raysim.tracking.directory import RunDirectory

ALLOW = "pass --allow-different-bits (allow_different_bits=True) to go on all the same"


def may_change(experiment: Experiment) -> tuple[str, ...]:
    """What a resume may change: nothing that the rounds so far depend on."""
    evaluation = ("evaluation.every", "evaluation.clients_every", "evaluation.local_baseline")
    keys = ("stop", "execution", "tracking", *evaluation, "data.cache", "tuning", "privacy.budget")
    return keys if _curve_over_all(experiment) else (*keys, "rounds")


def refuse_other_curve(run: RunDirectory, experiment: Experiment) -> None:
    """Say why a resume cannot have another number of rounds, before anything is built for it."""
    recorded = run.experiment()
    if (name := _curve_over_all(recorded)) and recorded.rounds != experiment.rounds:
        raise RunError(
            f"{run.path}: rounds must stay {recorded.rounds}: client.schedule is {name}, a curve over all rounds, and "
            f"with {experiment.rounds} the rounds so far would have had other learning rates; start a new run instead"
        )


def refuse_other_bits(recorded: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """A resume must compute as the run did."""
    for key, value in recorded.items():
        if found.get(key) != value:
            raise RunError(
                f"{key} was {value!r} when the run was started and is now {found.get(key)!r}: the result would differ; "
                f"{ALLOW}"
            )


def _curve_over_all(experiment: Experiment) -> str:
    """The name of a schedule that is a curve over all rounds: with another number, learning rates would have been
    others. Empty for any other schedule."""
    schedule = experiment.client.schedule
    if isinstance(schedule, StepScheduleConfig):
        return schedule.then if schedule.ends_with_the_run else ""
    return schedule.name if isinstance(schedule, CosineConfig) else ""
