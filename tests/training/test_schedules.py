"""Learning-rate schedules are pure functions of the round."""

from __future__ import annotations

import math

import pytest

from raysim.config.client import ConstantConfig, CosineConfig, ExponentialConfig, WarmupConfig
from raysim.training.schedules import lr_factor


def test_constant_is_one_in_every_round() -> None:
    assert [lr_factor(ConstantConfig(), r, 5) for r in range(1, 6)] == [1.0] * 5


def test_exponential_multiplies_once_every_so_many_rounds() -> None:
    factor, expected = 1.0, []
    for r in range(1, 8):
        expected.append(factor)
        if r % 3 == 0:
            factor *= 0.5
    assert [lr_factor(ExponentialConfig(gamma=0.5, every=3), r, 7) for r in range(1, 8)] == expected


def test_cosine_falls_from_one_in_the_first_round_to_the_floor_in_the_last() -> None:
    config = CosineConfig(floor=0.2)
    factors = [lr_factor(config, r, 11) for r in range(1, 12)]
    assert factors[0] == 1.0
    assert factors[-1] == pytest.approx(0.2, abs=1e-15)
    assert factors[5] == pytest.approx(0.6)
    assert factors[2] == pytest.approx(0.2 + 0.8 * (1 + math.cos(math.pi * 0.2)) / 2)
    assert factors == sorted(factors, reverse=True)


def test_cosine_of_a_single_round_is_one_and_past_the_end_stays_at_the_floor() -> None:
    assert lr_factor(CosineConfig(), 1, 1) == 1.0
    assert lr_factor(CosineConfig(floor=0.1), 30, 10) == pytest.approx(0.1)


def test_warmup_rises_linearly_and_stays_at_one() -> None:
    assert [lr_factor(WarmupConfig(rounds=4), r, 9) for r in range(1, 7)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
