"""Learning rates by local steps: the curve, and a loop of torch's own that steps along it, in every engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from plain_federation import experiment_of
from plain_orders import orders
from three_clients import LR, SETTING, SIZES, compiled_alone, module, samples, trained
from torch import nn

from raysim.config.client import AdamConfig, ClientConfig, OptimizerConfig, SgdConfig, StepScheduleConfig
from raysim.errors import ConfigError
from raysim.training import LocalWork, ParameterLayout
from raysim.training.schedules import round_rates, step_factor

WORK = LocalWork(5, steps=6)
RATES = tuple(LR * factor for factor in (0.25, 0.5, 1.0, 0.7, 0.2, 0.0))
OPTIMIZERS: dict[str, tuple[OptimizerConfig, Callable[[Any], torch.optim.Optimizer]]] = {
    "sgd": (SgdConfig(), lambda p: torch.optim.SGD(p, lr=LR)),
    "momentum": (SgdConfig(momentum=0.9), lambda p: torch.optim.SGD(p, lr=LR, momentum=0.9)),
    "adamw": (AdamConfig(name="adamw", weight_decay=0.2), lambda p: torch.optim.AdamW(p, lr=LR, weight_decay=0.2)),
}


def test_a_warm_up_is_followed_by_what_was_asked_for() -> None:
    def curve(then: Any, **options: Any) -> list[float]:
        config = StepScheduleConfig(warmup=4, then=then, **options)
        return [step_factor(config, step, 9) for step in range(11)]

    rise = [0.25, 0.5, 0.75, 1.0]
    assert curve("constant") == [*rise, *[1.0] * 7]
    assert curve("linear", floor=0.2) == pytest.approx([*rise, 1.0, 0.8, 0.6, 0.4, 0.2, 0.2, 0.2])
    half = 0.5**0.5 / 2
    assert curve("cosine") == pytest.approx([*rise, 1.0, 0.5 + half, 0.5, 0.5 - half, 0.0, 0.0, 0.0])
    assert curve("inverse_sqrt", floor=0.65)[4:8] == pytest.approx(
        [(4 / 5) ** 0.5, (4 / 6) ** 0.5, 0.7559, 0.7071], abs=1e-4
    )
    assert step_factor(StepScheduleConfig(then="cosine"), 0, 9) == 1.0


def test_rounds_go_on_where_the_round_before_ended() -> None:
    schedule = "client.schedule={name: steps, warmup: 4, then: cosine}"
    experiment = experiment_of("fedavg", "client.steps=3", schedule)
    curve = StepScheduleConfig(warmup=4, then="cosine")
    rounds = [round_rates(experiment, LocalWork(5, steps=3), number) for number in range(1, 5)]
    assert [rate for _, rates in rounds for rate in rates or ()] == [0.2 * step_factor(curve, s, 12) for s in range(12)]
    assert [first for first, _ in rounds] == [(rates or ())[0] for _, rates in rounds]
    # A cohort that stays for two rounds takes its steps in one of them.
    stays = [round_rates(experiment, LocalWork(5, steps=3, rounds=2), number)[1] for number in range(1, 5)]
    assert stays[0] == stays[1]
    assert [*(stays[0] or ()), *(stays[2] or ())] == [0.2 * step_factor(curve, s, 6) for s in range(6)]


@pytest.mark.parametrize(("optimizer", "engine"), compiled_alone(OPTIMIZERS, "momentum", "adamw"))
def test_steps_are_those_of_torch_with_these_rates(optimizer: str, engine: str) -> None:
    config, made = OPTIMIZERS[optimizer]
    rows = trained(ClientConfig(optimizer=config), engine, replace(SETTING, rates=RATES), WORK)
    for number in range(3):
        model, mine = module(), samples(number)
        steps = made(model.parameters())
        for rate, index in zip(RATES, orders(1, 2, number, SIZES[number], WORK), strict=True):
            steps.param_groups[0]["lr"] = rate
            steps.zero_grad()
            output, target = model(torch.from_numpy(mine.x)[index]), torch.from_numpy(mine.y)[index]
            nn.functional.cross_entropy(output, target).backward()
            steps.step()
        expected = ParameterLayout(model).pack(model)
        torch.testing.assert_close(rows[number], expected, rtol=0, atol=2e-6)


def test_equal_rates_are_one_rate_to_the_bit() -> None:
    for config, _ in OPTIMIZERS.values():
        for engine in ("sequential", "rows"):
            one, many = SETTING, replace(SETTING, rates=(LR,) * 6)
            found = [trained(ClientConfig(optimizer=config), engine, setting, WORK) for setting in (one, many)]
            assert torch.equal(*found)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ({"floor": 0.1}, "remove floor"),
        ({"total": 9}, "remove total"),
        ({"then": "inverse_sqrt", "total": 9}, "remove total"),
        ({"then": "cosine", "total": 9, "warmup": 9}, r"total \(9\) must be above warmup \(9\)"),
    ],
)
def test_a_key_without_an_effect_is_refused(schedule: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StepScheduleConfig(**schedule)


def test_a_warm_up_over_the_whole_run_leaves_no_curve() -> None:
    experiment = experiment_of("fedavg", "client.steps=3", "client.schedule={name: steps, warmup: 12, then: linear}")
    with pytest.raises(ConfigError, match=r"client\.schedule\.warmup \(12\) takes all 12 steps of the run"):
        round_rates(experiment, LocalWork(5, steps=3), 1)
