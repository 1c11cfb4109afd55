"""Stages on actors: the bits of one process, also where clients keep residuals and rounds are empty."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import prototype_stages
import pytest
from federations import digits, final_sha256

STAGES = "aggregation.stages="
CHAINS = {
    "clip and noise": [
        "aggregation.weights={name: samples, cap: 40}",
        STAGES + "[{name: adaptive_clip, fraction_noise: 0.6}, {name: gaussian, noise_multiplier: 1.0}]",
    ],
    "correlated noise": [
        "aggregation.weights=uniform",
        "selection=round_robin",
        "cohort=2",
        STAGES
        + "[{name: clip, max_norm: 0.3}, {name: blt, noise_multiplier: 1.0, output_scale: [0.3], buf_decay: [0.9]}]",
    ],
    "top-k with error feedback": [STAGES + "[{name: prototype_stages:TopK, args: {k: 30}}]"],
}
ACTORS = ["execution.executor=ray", "execution.rounds_ahead=0"]

pytestmark = pytest.mark.ray


@pytest.fixture(autouse=True)
def _where_actors_look_for_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(prototype_stages.__file__).parent)


@pytest.mark.parametrize("chain", CHAINS)
def test_any_number_of_actors_comes_to_the_bits_of_one_process(tmp_path: Path, ray_session: Any, chain: str) -> None:
    run = ["rounds=2", *CHAINS[chain]]
    expected = final_sha256(digits(tmp_path, *run))
    for actors in (1, 2, 3):
        assert final_sha256(digits(tmp_path, *run, *ACTORS, f"execution.actors={actors}")) == expected, actors


def test_the_server_takes_a_step_in_empty_rounds_on_actors(tmp_path: Path, ray_session: Any) -> None:
    run = ["selection=poisson", "cohort=1", "rounds=6", *CHAINS["clip and noise"]]
    expected = final_sha256(digits(tmp_path, *run))
    assert final_sha256(digits(tmp_path, *run, *ACTORS, "execution.actors=2")) == expected
