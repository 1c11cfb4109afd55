"""Client learning rates over the rounds, or over all local steps."""

from __future__ import annotations

import math

from raysim.config import Experiment
from raysim.config.client import (
    ConstantConfig,
    CosineConfig,
    ExponentialConfig,
    ScheduleConfig,
    StepScheduleConfig,
    WarmupConfig,
)
from raysim.errors import ConfigError
from raysim.training.batches import LocalWork


def lr_factor(config: ScheduleConfig, round: int, rounds: int) -> float:
    """The factor on the client learning rate in a round.

    With r the round and R all of them: `exponential` gamma^⌊(r - 1) / every⌋; `cosine`
    floor + (1 - floor)(1 + cos(π (r - 1) / (R - 1))) / 2, hence 1 in the first round and `floor` in the last (and
    after it); `warmup` min(1, r / rounds); 1 where the schedule is by steps (`step_factor`).

    Args:
        config: the configuration's `client.schedule`.
        round: number of the round, from 1.
        rounds: rounds of the experiment.
    """
    match config:
        case ConstantConfig() | StepScheduleConfig():
            return 1.0
        case ExponentialConfig():
            return config.gamma ** ((round - 1) // config.every)
        case CosineConfig():
            progress = min(1.0, (round - 1) / (rounds - 1)) if rounds > 1 else 0.0
            return config.floor + (1 - config.floor) * (1 + math.cos(math.pi * progress)) / 2
        case WarmupConfig():
            return min(1.0, round / config.rounds)


def step_factor(config: StepScheduleConfig, step: int, total: int) -> float:
    """The factor on the client learning rate in a local step.

    With s the step, W the steps of the rise and T all of them: (s + 1) / W for s < W, then with
    p = min(1, (s - W) / (T - 1 - W)): `constant` 1; `linear` floor + (1 - floor)(1 - p); `cosine`
    floor + (1 - floor)(1 + cos(πp)) / 2; `inverse_sqrt` max(floor, √(max(W, 1) / (s + 1))).

    Args:
        step: counted over all rounds, from 0.
        total: steps of the whole curve.
    """
    if step < config.warmup:
        return (step + 1) / config.warmup
    progress = min(1.0, (step - config.warmup) / max(total - 1 - config.warmup, 1))
    match config.then:
        case "constant":
            return 1.0
        case "linear":
            return config.floor + (1 - config.floor) * (1 - progress)
        case "cosine":
            return config.floor + (1 - config.floor) * (1 + math.cos(math.pi * progress)) / 2
        case "inverse_sqrt":
            return max(config.floor, math.sqrt(max(config.warmup, 1) / (step + 1)))


def round_rates(experiment: Experiment, work: LocalWork, round: int) -> tuple[float, tuple[float, ...] | None]:
    """The client learning rate of a round, and that of each of its batches where the schedule is by steps.

    Steps are counted as batches of the round's work, S in each round (of those that a cohort stays for, in one):
    batch b of the r-th is step (r - 1) S + b, whatever a client did before, also where it was cut short as a straggler.

    Raises:
        ConfigError: a schedule by steps, and clients of unequal size would take unequal numbers of them.
    """
    schedule, lr = experiment.client.schedule, experiment.client.optimizer.lr
    if not isinstance(schedule, StepScheduleConfig):
        return lr * lr_factor(schedule, round, experiment.rounds), None
    if work.steps is None:
        raise ConfigError(
            "client.schedule: with client.epochs, clients of unequal size take unequal numbers of steps, which a "
            "schedule by steps cannot count; set client.steps, or use a schedule by rounds"
        )
    total = schedule.total or work.drawn_in(experiment.rounds) * work.steps
    if schedule.then in ("linear", "cosine") and schedule.warmup >= total:
        raise ConfigError(
            f"client.schedule.warmup ({schedule.warmup}) takes all {total} steps of the run, and nothing is left for "
            f"the {schedule.then} curve; lower it"
        )
    first = (work.drawn_in(round) - 1) * work.steps
    rates = tuple(lr * step_factor(schedule, first + batch, total) for batch in range(work.steps))
    return rates[0], rates
