"""Client learning rates over the rounds."""

from __future__ import annotations

import math

from raysim.config.client import ConstantConfig, CosineConfig, ExponentialConfig, ScheduleConfig, WarmupConfig


def lr_factor(config: ScheduleConfig, round: int, rounds: int) -> float:
    """The factor on the client learning rate in a round.

    With r the round and R all of them: `exponential` gamma^⌊(r - 1) / every⌋; `cosine`
    floor + (1 - floor)(1 + cos(π (r - 1) / (R - 1))) / 2, hence 1 in the first round and `floor` in the last (and
    after it); `warmup` min(1, r / rounds).

    Args:
        config: the configuration's `client.schedule`.
        round: number of the round, from 1.
        rounds: rounds of the experiment.
    """
    match config:
        case ConstantConfig():
            return 1.0
        case ExponentialConfig():
            return config.gamma ** ((round - 1) // config.every)
        case CosineConfig():
            progress = min(1.0, (round - 1) / (rounds - 1)) if rounds > 1 else 0.0
            return config.floor + (1 - config.floor) * (1 + math.cos(math.pi * progress)) / 2
        case WarmupConfig():
            return min(1.0, round / config.rounds)
