"""Edges of a hierarchy, on actors: a record with a sum for each edge, and the bits of one process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from federations import digits, final_sha256, sha256

from raysim import Simulation

pytestmark = pytest.mark.ray

COMMON = ["model=softmax", "cohort=5", "algorithm={name: hierfavg, edges: 3, edge_rounds: 2, assign: size}"]


@pytest.mark.parametrize("spread", ["execution.actors=1", "execution.actors=2", "execution.clients_per_actor=2"])
def test_a_run_that_goes_on_between_rounds_of_the_cloud_on_any_actors_comes_to_the_bits_of_one_process(
    tmp_path: Path, ray_session: Any, spread: str
) -> None:
    expected = final_sha256(digits(tmp_path / "one", *COMMON))
    with Simulation(digits(tmp_path / "ray", *COMMON, "tracking.checkpoint_every=1")) as half:
        next(iter(half))
    with Simulation.resume(half.directory, overrides=["execution.executor=ray", spread]) as resumed:
        resumed.run()
        assert sha256(resumed.model()) == expected
