"""A small federation with a validation set, which the tests of studies share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raysim import Experiment

TUNABLE: dict[str, Any] = {
    "name": "study",
    "rounds": 3,
    "cohort": 4,
    "data": {"partition": {"name": "iid", "clients": 6}, "validation": 0.2},
    "client": {"steps": 2, "optimizer": {"name": "sgd", "lr": 0.1}},
    "training": {"engine": "sequential"},
    "execution": {"executor": "inprocess"},
}

Tunable = Callable[..., Experiment]

LR: dict[str, Any] = {"client.optimizer.lr": {"low": 0.01, "high": 1.0, "log": True}}
