"""A submodule that its author left in evaluation mode stays in it while clients train, wherever they do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from federations import digits, final_sha256, sha256
from torch import nn

from raysim import Simulation

DATA = {
    "x": np.random.default_rng(0).normal(size=(90, 4)).astype(np.float32),
    "y": np.random.default_rng(1).integers(0, 3, 90),
    "client": np.repeat(range(6), 15),
}
NATURAL = ("data.partition=natural", "rounds=2", "client.optimizer.lr=0.1")


def frozen() -> nn.Sequential:
    """Batch normalisation with statistics of its own, in evaluation mode."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))
    nn.init.normal_(model[1].running_mean)
    model[1].eval()
    return model


@pytest.mark.parametrize(
    "overrides",
    [
        ["training.engine=sequential"],
        ["algorithm={name: moon, layer: '3'}"],
        ["algorithm=mimelite"],
        ["evaluation.fine_tune={epochs: 1}"],
    ],
    ids=["sequential", "moon", "mimelite", "fine_tune"],
)
def test_frozen_statistics_do_not_move(tmp_path: Path, overrides: list[str]) -> None:
    model = frozen()
    with Simulation(digits(tmp_path, *NATURAL, *overrides), model=model, data=DATA) as simulation:
        rounds = list(simulation)
        found = simulation.model()
    assert all(r.row.dropped == 0 for r in rounds)
    for name in ("running_mean", "running_var"):
        assert torch.equal(found.get_buffer(f"1.{name}"), model.get_buffer(f"1.{name}"))
    assert not torch.equal(found.get_parameter("0.weight"), model.get_parameter("0.weight"))


@pytest.mark.parametrize("engine", ["sequential", "rows"])
def test_dropout_that_is_off_drops_nothing(tmp_path: Path, engine: str) -> None:
    def net(*middle: nn.Module) -> nn.Sequential:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 6), *middle, nn.ReLU(), nn.Linear(6, 3))

    experiment = digits(tmp_path, *NATURAL, f"training.engine={engine}")
    with Simulation(experiment, model=net(nn.Dropout(0.5).eval()), data=DATA) as simulation:
        simulation.run()
        assert simulation.experiment.training.engine == engine
        found = list(simulation.model().parameters())
    with Simulation(experiment, model=net(nn.Identity()), data=DATA) as simulation:
        simulation.run()
        expected = list(simulation.model().parameters())
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_the_same_weights_with_and_without_frozen_statistics_are_other_runs(tmp_path: Path) -> None:
    model = frozen()
    expected = final_sha256(digits(tmp_path, *NATURAL), model=model, data=DATA)
    assert final_sha256(digits(tmp_path, *NATURAL), model=model.train(), data=DATA) != expected


@pytest.mark.ray
def test_modes_travel_to_actors(tmp_path: Path, ray_session: object) -> None:
    expected = final_sha256(digits(tmp_path, *NATURAL), model=frozen(), data=DATA)
    spread = digits(tmp_path, *NATURAL, "execution.executor=ray", "execution.actors=2")
    with Simulation(spread, model=frozen(), data=DATA) as simulation:
        simulation.run()
        assert sha256(simulation.model()) == expected
