"""What a trial comes to."""

from __future__ import annotations

import math
from typing import Any

import pytest

from raysim.config.tuning import ObjectiveConfig, TuningConfig
from raysim.errors import ConfigError
from raysim.tuning.objective import Goal, TrialRound, resolve_goals

NAMES = [
    "train/loss",
    "validation/loss",
    "validation/accuracy",
    "test/accuracy",
    "clients/accuracy/worst10",
    "clients/test/loss/mean",
    "virtual/seconds",
]
ACCURACY = [0.2, 0.8, 0.6, 0.7]


def rounds(values: list[float | None] = ACCURACY) -> list[TrialRound]:
    return [
        TrialRound(number, {} if value is None else {"validation/accuracy": value}, 10, 100, 1000, 300, 0.5)
        for number, value in enumerate(values, start=1)
    ]


def goal(**keys: Any) -> Goal:
    return resolve_goals([ObjectiveConfig.model_validate(keys)], NAMES, 4)[0]


@pytest.mark.parametrize(
    ("keys", "value", "maximise"),
    [
        ({}, 0.7, True),
        ({"of": "best"}, 0.8, True),
        ({"of": "mean", "last": 2}, 0.65, True),
        ({"of": "rounds_to", "target": 0.75}, 2, False),
        ({"of": "bytes_to", "target": 0.75}, 2000, False),
        ({"of": "steps_to", "target": 0.1}, 10, False),
        ({"of": "rounds_to", "target": 0.9}, 5, False),
        ({"of": "bytes_to", "target": 0.9}, 5000, False),
        ({"of": "virtual_seconds_to", "target": 0.75}, 1.0, False),
        ({"of": "wire_bytes_to", "target": 0.9}, 1500, False),
        ({"metric": "total/virtual_seconds"}, 2.0, False),
        ({"metric": "total/wire_bytes"}, 1200, False),
        ({"metric": "total/bytes"}, 4000, False),
        ({"metric": "total/samples"}, 400, False),
        ({"direction": "minimise", "of": "best"}, 0.2, False),
    ],
)
def test_objectives_of_four_rounds(keys: dict[str, Any], value: float, maximise: bool) -> None:
    found = goal(**keys)
    assert found.value(rounds()) == pytest.approx(value)
    assert found.maximise is maximise


def test_rounds_without_an_evaluation_do_not_count_and_nan_is_nan() -> None:
    assert goal(of="mean", last=2).value(rounds([0.1, None, 0.3, None])) == pytest.approx(0.2)
    assert math.isnan(goal().value(rounds([None, None])))
    assert math.isnan(goal().value(rounds([0.5, math.nan])))
    assert goal(of="rounds_to", target=0.5).value(rounds([None, 0.6, None])) == 2


def test_a_pruner_compares_in_the_objectives_own_direction() -> None:
    assert goal().intermediate(rounds()) == 0.7
    assert goal().intermediate(rounds([0.5, None])) is None
    closer, farther = (goal(of="rounds_to", target=0.9).intermediate(rounds([v])) for v in (0.8, 0.3))
    assert closer is not None
    assert farther is not None
    assert closer < farther


def test_a_trial_may_end_when_its_target_is_reached() -> None:
    found = goal(of="rounds_to", target=0.75)
    assert not found.reached(rounds()[:1])
    assert found.reached(rounds()[:2])
    assert not goal().reached(rounds())


@pytest.mark.parametrize(
    ("keys", "names", "message"),
    [
        ({"metric": "clients/test/loss/mean"}, NAMES, "clients/test/loss/mean: the test set is for the confirmation"),
        ({"metric": "test/accuracy"}, NAMES, "test/accuracy: the test set is for the confirmation"),
        ({"metric": "train/loss"}, NAMES, "train/loss: it is what is trained on"),
        ({"metric": "validation/acuracy"}, NAMES, "'validation/acuracy' is not recorded; recorded are validation/loss"),
        ({"metric": "validation/loss"}, ["test/loss"], "not recorded; set data.validation, e.g. to 0.1"),
        ({}, ["train/loss", "test/loss"], "there is no validation set to judge trials by; set data.validation"),
        ({"of": "virtual_seconds_to", "target": 0.9}, NAMES[:-1], "there is no virtual time without devices; set sys"),
        (
            {"metric": "total/virtual_seconds"},
            NAMES[:-1],
            "there is no virtual time without devices; set systems.fleet",
        ),
        ({"metric": "total/bytes", "of": "best"}, NAMES, "total/bytes is a sum over the rounds"),
    ],
)
def test_what_a_study_may_not_look_at_is_refused(keys: dict[str, Any], names: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_goals([ObjectiveConfig.model_validate(keys)], names, 4)
    assert message in str(caught.value)


def test_what_it_takes_to_reach_a_target_has_a_short_form() -> None:
    found = TuningConfig.model_validate({"objective": ["virtual_seconds@0.9", "wire_bytes@0.9", "validation/loss"]})
    assert [(one.of, one.target, one.metric) for one in found.objective] == [
        ("virtual_seconds_to", 0.9, None),
        ("wire_bytes_to", 0.9, None),
        ("last", None, "validation/loss"),
    ]
