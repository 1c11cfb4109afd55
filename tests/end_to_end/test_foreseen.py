"""Runs through rounds that chance makes special: nobody to train, last batches of one sample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from federations import digits, final_sha256
from torch import nn

from raysim import Simulation
from raysim.errors import ConfigError, ModelError

EMPTY = (
    "data.partition={name: dirichlet, clients: 40, alpha: 0.02, min_size: 0, allow_empty: true}",
    "cohort=1",
    "rounds=8",
    "seed=3",
)


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["algorithm=mimelite"],
        ["algorithm=mime"],
        ["algorithm=scaffold"],
        ["algorithm=ifca"],
        ["aggregation.exact=false"],
        ["aggregation.weights={name: explicit, table: {1: 1.0}}", "data.partition={name: iid, clients: 6}", "cohort=2"],
    ],
)
def test_a_round_that_draws_nobody_with_weight_keeps_the_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], overrides: list[str]
) -> None:
    with Simulation(digits(tmp_path, *EMPTY, *overrides)) as simulation:
        before, idle = simulation.model(), 0
        for committed in simulation:
            after = simulation.model()
            same = all(torch.equal(a, b) for a, b in zip(before.parameters(), after.parameters(), strict=True))
            if committed.row.cohort == 0:
                assert same
                assert committed.clients.num_rows == 0
                idle += 1
            before = after
    assert 0 < idle < 8
    assert "rounds draw no other client and keep the model" in capsys.readouterr().err


@pytest.mark.ray
def test_rounds_without_clients_end_in_the_same_bits_on_actors(tmp_path: Path, ray_session: object) -> None:
    expected = final_sha256(digits(tmp_path, *EMPTY))
    assert final_sha256(digits(tmp_path, *EMPTY, "execution.executor=ray", "execution.actors=2")) == expected


SIZES = [10, 11, 21, 12]
DATA = {
    "x": np.random.default_rng(0).normal(size=(sum(SIZES), 4)).astype(np.float32),
    "y": np.random.default_rng(1).integers(0, 3, sum(SIZES)),
    "client": np.repeat(range(4), SIZES),
    "x_test": np.zeros((5, 4), np.float32),
    "y_test": np.zeros(5, int),
}
NATURAL = ("data.partition=natural", "data.holdout=0", "client.batch_size=5", "cohort=1.0", "rounds=2")


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))


@pytest.mark.parametrize("algorithm", ["fedavg", "mime", "fedrep", "perfedavg", "fedbn"])
def test_batch_normalisation_trains_where_last_batches_are_left_out(tmp_path: Path, algorithm: str) -> None:
    experiment = digits(tmp_path, *NATURAL, f"algorithm={algorithm}")
    with pytest.raises(ConfigError, match=r"client 1 and 1 of the other 3 would: .* set client\.drop_last to true"):
        Simulation(experiment, model=net(), data=DATA)
    assert not list(tmp_path.iterdir())
    with Simulation(experiment.updated(["client.drop_last=true"]), model=net(), data=DATA) as simulation:
        assert [r.row.trained for r in simulation] == [4, 4]


def test_one_client_at_a_time_and_rows_leave_out_the_same_batches(tmp_path: Path) -> None:
    plain, models = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)), []
    for engine in ("sequential", "rows"):
        experiment = digits(tmp_path, *NATURAL, f"training.engine={engine}", "client.drop_last=true")
        with Simulation(experiment, model=plain, data=DATA) as simulation:
            rounds = list(simulation)
            models.append(simulation.model())
        assert rounds[0].clients.column("steps").to_pylist() == [2, 2, 4, 2]
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


class Auxiliary(nn.Module):
    """Two outputs while it trains."""

    def __init__(self) -> None:
        super().__init__()
        self.main, self.side = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> object:
        return (self.main(x), self.side(x)) if self.training else self.main(x)


def test_outputs_of_training_alone_are_known_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"model Auxiliary in training mode maps \[2, 4\] to a tuple"):
        Simulation(digits(tmp_path, *NATURAL), model=Auxiliary(), data=DATA)
    assert not list(tmp_path.iterdir())
