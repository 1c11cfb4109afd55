"""A study's values as words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from raysim.config.tuning import TuningConfig
from raysim.tuning.words import asked, spoken


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (json.dumps({"lr": 0.1, "momentum": 0.9, "name": "sgd"}), "sgd, lr 0.1, momentum 0.9"),
        ({"name": "mlp", "hidden": [64, 32]}, "mlp, hidden (64, 32)"),
        ({"name": "x", "inner": {"name": "y", "a": None}}, "x, inner (y, a none)"),
        ("[64, 32]", "64, 32"),
        ("{not json", "{not json"),
        (0.123456, "0.1235"),
        (True, "yes"),
        (None, "none"),
        (7, "7"),
        ("fedavg", "fedavg"),
    ],
)
def test_structured_choices_are_said_in_words(value: Any, words: str) -> None:
    assert spoken(value) == words


def test_what_was_asked_for_is_a_line_for_each_thing_that_varies() -> None:
    tuning = TuningConfig.model_validate(
        {
            "space": {
                "client.optimizer": {"choices": [{"name": "sgd", "lr": 0.1}, "adam"]},
                "client.optimizer.lr": {"low": 0.01, "high": 1, "log": True, "when": {"client.optimizer": "adam"}},
                "client.epochs": {"low": 2, "high": 8, "step": 2},
            },
            "objective": {"metric": "validation/accuracy", "of": "rounds_to", "target": 0.9},
        }
    )
    lines = dict(asked(tuning))
    assert lines["client.optimizer"] == "sgd, lr 0.1 · adam"
    assert lines["client.optimizer.lr"] == "0.01 to 1, logarithmic, when client.optimizer is adam"
    assert lines["client.epochs"] == "2 to 8, in steps of 2"
    assert lines["objective"] == "validation/accuracy: rounds to 0.9"
    assert lines["sampler"] == "tpe, startup 10"
    assert not any("null" in text or "{" in text for text in lines.values())
