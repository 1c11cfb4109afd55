"""Metrics of named classes from a table to the columns of a run, its stop rule and its files, in process and on Ray."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from raysim import Experiment, Simulation
from raysim.errors import ConfigError
from raysim.tracking import RunDirectory

LOOKED_FOR = ["test/precision", "test/recall", "test/f1", "test/pr_auc", "test/roc_auc"]


def passengers(tmp_path: Path, *overrides: str, executor: str = "inprocess") -> Experiment:
    file = tmp_path / "passengers.csv"
    random = np.random.default_rng(0)
    ages = random.normal(size=120)
    outcomes = np.where(ages + random.normal(size=120) > 0.8, "died", "survived")
    file.write_text("age,fare,outcome\n" + "".join(f"{a:.3f},{f:.3f},{o}\n" for a, f, o in zip(
        ages, random.normal(size=120), outcomes, strict=True)))  # fmt: skip
    experiment: dict[str, Any] = {
        "rounds": 3,
        "cohort": 1.0,
        "data": {
            "source": {"name": "csv", "path": str(file), "label": "outcome"},
            "partition": {"name": "iid", "clients": 4},
            "holdout": 0.3,
            "validation": 0.2,
        },
        "evaluation": {
            "metrics": ["precision", "recall", "f1", "pr_auc", "roc_auc", "brier", "ece"],
            "positive": "died",
            "batch_size": 7,
        },
        "training": {"engine": "sequential"},
        "execution": {"executor": executor, "actors": 2},
        "tracking": {"directory": str(tmp_path), "report": False},
    }
    return Experiment.parse(experiment).updated(overrides)


def recorded(experiment: Experiment) -> tuple[dict[str, float], RunDirectory]:
    with Simulation(experiment) as simulation:
        return dict(simulation.run().metrics), RunDirectory(simulation.directory)


def test_the_positive_class_has_a_column_of_each_metric_everywhere(tmp_path: Path) -> None:
    found, run = recorded(passengers(tmp_path))
    assert set(LOOKED_FOR) <= found.keys()
    for name in ("recall", "roc_auc", "ece"):
        assert {f"validation/{name}", f"clients/{name}/worst10", f"clients/{name}/mean"} <= found.keys()
    assert {"precision", "pr_auc", "brier"} <= set(pq.read_schema(run.holdouts).names)
    assert json.loads(run.environment.read_text())["classes"] == ["died", "survived"]


@pytest.mark.ray
def test_the_metrics_of_two_actors_have_the_bits_of_this_process(tmp_path: Path, ray_session: Any) -> None:
    here, _ = recorded(passengers(tmp_path))
    there, _ = recorded(passengers(tmp_path, executor="ray"))
    assert there == here


def test_each_class_has_columns_with_its_name_and_a_run_may_stop_by_one(tmp_path: Path) -> None:
    experiment = passengers(
        tmp_path, "evaluation.positive=null", "rounds=50", "stop.metric=test/recall/survived", "stop.target=0.5"
    )
    with Simulation(experiment) as simulation:
        summary = simulation.run()
    assert summary.reason == "test/recall/survived reached 0.5"
    assert {"test/f1/died", "clients/f1/survived/mean"} <= summary.metrics.keys()


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("evaluation.positive=dead", "evaluation.positive: there is no class dead; classes are died, survived"),
        ("evaluation.metrics=[recall/alive]", "recall/alive: there is no class alive; classes are died, survived"),
    ],
)
def test_an_unknown_class_is_one_line_with_the_names(tmp_path: Path, override: str, line: str) -> None:
    overrides = [override] if "positive" in override else [override, "evaluation.positive=null"]
    with pytest.raises(ConfigError, match=line) as caught:
        Simulation(passengers(tmp_path, *overrides))
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("experiment-*"))
