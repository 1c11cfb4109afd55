"""Models whose sound values are large: statistics of raw features, targets of hundreds of thousands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from federations import digits, final_sha256, sha256
from torch import nn

from raysim import Simulation

NATURAL = ("data.partition=natural", "data.holdout=0", "cohort=1.0", "rounds=3", "client.batch_size=20")


def raw_features(scale: float = 20_000.0) -> dict[str, Any]:
    """Four hospitals; the first feature has deviations of thousands, and the last hospital other units."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(400, 3)).astype(np.float32) * np.float32([scale, 10, 1])
    x[300:, 2] *= 500
    y = (x[:, 0] > 0).astype(np.int64)
    return {"x": x, "y": y, "x_test": x, "y_test": y, "client": np.repeat(range(4), 100)}


def normalised() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2))


class Counting(nn.Module):
    """Counts its steps in a float buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.steps += 1
        out: torch.Tensor = self.layer(x)
        return out


@pytest.mark.parametrize("rule", ["aggregation.exact=true", "aggregation.exact=false", "data.validation=0.1"])
@pytest.mark.parametrize("scale", [2e4, 3e7])
def test_running_statistics_of_raw_features_are_averaged(tmp_path: Path, rule: str, scale: float) -> None:
    data = raw_features(scale)
    learned = ["aggregation.weights=learned"] if "validation" in rule else []
    experiment = digits(tmp_path, *NATURAL, rule, *learned, "client.epochs=6")
    with Simulation(experiment, model=normalised(), data=data) as simulation:
        rounds = list(simulation)
        found = simulation.model().get_submodule("0")
    assert [r.row.dropped for r in rounds] == [0, 0, 0]
    variance = np.array([data["x"][:, :2].var(axis=0)]).squeeze()
    np.testing.assert_allclose(found.get_buffer("running_var")[:2], variance, rtol=0.2)
    assert rounds[-1].metrics["test/accuracy"] > 0.9


@pytest.mark.parametrize("rule", ["fedbn", "fedexp", "scaffold", "fednova", "mimelite"])
def test_every_field_of_a_record_takes_large_values(tmp_path: Path, rule: str) -> None:
    experiment = digits(tmp_path, *NATURAL, f"algorithm={rule}", "client.optimizer.lr=0.01")
    with Simulation(experiment, model=normalised(), data=raw_features()) as simulation:
        assert [r.row.dropped for r in simulation] == [0, 0, 0]


def test_a_regression_on_targets_of_hundreds_of_thousands_learns_them(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(400, 3)).astype(np.float32)
    y = (200_000 + 80_000 * x[:, 0]).astype(np.float32)
    data = {"x": x, "y": y, "x_test": x, "y_test": y, "client": np.repeat(range(4), 100)}
    with Simulation(digits(tmp_path, *NATURAL, "rounds=20"), model=nn.Linear(3, 1), data=data) as simulation:
        *_, last = simulation
    assert last.metrics["test/rmse"] < 1


def test_a_counter_of_steps_may_pass_two_thousand(tmp_path: Path) -> None:
    few = {name: values[:40] for name, values in raw_features().items()}
    few["client"] = np.repeat([0, 1], 20)
    experiment = digits(tmp_path, *NATURAL, "rounds=1", "client.steps=2100", "client.optimizer.lr=0", "cohort=1.0")
    with Simulation(experiment, model=Counting(), data=few) as simulation:
        assert [r.row.dropped for r in simulation] == [0]
        assert simulation.model().get_buffer("steps").item() == 2100


@pytest.mark.ray
def test_large_values_end_in_the_same_bits_on_actors_and_after_a_resume(tmp_path: Path, ray_session: object) -> None:
    model, data = normalised(), raw_features()
    experiment = digits(tmp_path, *NATURAL, "algorithm.server_momentum=0.5")
    expected = final_sha256(experiment, model=model, data=data)
    spread = experiment.updated(["execution.executor=ray", "execution.actors=2"])
    with Simulation(spread, model=model, data=data) as simulation:
        next(iter(simulation))
    with Simulation.resume(simulation.directory, model=model, data=data) as resumed:
        resumed.run()
        assert sha256(resumed.model()) == expected


def test_a_client_that_is_left_out_is_told_with_the_parameter_at_fault(tmp_path: Path) -> None:
    data = raw_features()
    data["x"][:100, 1] = 3e38
    with Simulation(digits(tmp_path, *NATURAL, "rounds=1"), model=normalised(), data=data) as simulation:
        (only,) = simulation
    assert only.clients.column("dropped").to_pylist() == ["update is not finite in 0.weight", None, None, None]
