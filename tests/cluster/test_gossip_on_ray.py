"""Nodes with models of their own, on actors: the bits of one process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from federations import digits, sha256

from raysim import Experiment, Simulation

pytestmark = pytest.mark.ray

COMMON = ["model=softmax", "cohort=1.0", "aggregation.weights=uniform", "algorithm={name: push_sum, graph: one_peer}"]
EXACT = (
    "gossip/consensus",
    "nodes/test/accuracy/mean",
    "nodes/test/loss/worst",
    "clients/loss/mean",
    "wire_up",
    "wire_down",
)


def finished(experiment: Experiment) -> tuple[str, list[Any]]:
    with Simulation(experiment) as simulation:
        simulation.run()
        return sha256(simulation.model()), _recorded(simulation)


def _recorded(simulation: Simulation) -> list[Any]:
    found: list[Any] = pq.read_table(simulation.directory / "rounds.parquet").select(EXACT).to_pylist()
    return found


@pytest.mark.parametrize("actors", [1, 2, 4])
def test_nodes_mix_alike_on_any_number_of_actors_and_after_a_resume_there(
    tmp_path: Path, ray_session: Any, actors: int
) -> None:
    expected = finished(digits(tmp_path / "one", *COMMON))
    with Simulation(digits(tmp_path / "ray", *COMMON, "rounds=2")) as half:
        half.run()
    on_ray = ["rounds=4", "execution.executor=ray", f"execution.actors={actors}"]
    own = ["execution.clients_per_actor=2"] if actors == 4 else []  # shared rounds, and not whole ones on one actor
    with Simulation.resume(half.directory, overrides=on_ray[:2] + (own or on_ray[2:])) as resumed:
        resumed.run()
        assert (sha256(resumed.model()), _recorded(resumed)) == expected
