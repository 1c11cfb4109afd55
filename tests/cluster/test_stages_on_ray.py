"""Stages on actors: the bits of one process, also where clients keep residuals and rounds are empty."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import prototype_stages
import pytest
from federations import digits, final_sha256

UNIFORM = ["aggregation.weights=uniform", "selection=round_robin", "cohort=3"]
CLIP, CLIP_1 = "{name: clip, max_norm: 0.3}", "{name: clip, max_norm: 0.3, order: 1}"
CAPPED = ["aggregation.weights={name: samples, cap: 40}"]
MASKED = [*UNIFORM, "aggregation.protection={name: secagg, bits: 20, clip: 4.0}"]
POWER = "{name: compress, codec: {name: powersgd, rank: 2}, feedback: {name: ef14, decay: 0.9}, dense_below: 17}"
DOWN = "{name: downlink, codec: {name: topk, fraction: 0.1}, dense_below: 17}"
CHAINS = {
    "gaussian": (CAPPED, ["{name: adaptive_clip, fraction_noise: 0.6}", "{name: gaussian, noise_multiplier: 1.0}"]),
    "tree": (UNIFORM, ["{name: layer_clip, max_norm: 0.3}", "{name: tree, noise_multiplier: 1.0}"]),
    "bsr": (UNIFORM, [CLIP, "{name: bsr, noise_multiplier: 1.0, bands: 2}"]),
    "blt": (UNIFORM, [CLIP, "{name: blt, noise_multiplier: 1.0, output_scale: [0.3], buf_decay: [0.9]}"]),
    "local": (UNIFORM, [CLIP_1, "{name: local_laplace, noise_multiplier: 0.1}"]),
    "distributed": (MASKED, [CLIP, "{name: skellam, noise_multiplier: 0.01}"]),
    "random columns": (UNIFORM, [CLIP, "{name: randk, dense_below: 17}", "{name: gaussian, noise_multiplier: 0.1}"]),
    "compressed both ways": ([], [POWER, DOWN]),
    "sketch": ([], ["{name: rotate, block: 32}", "{name: sketch, rows: 3, width: 150, fraction: 0.01}"]),
}
ACTORS = ["execution.executor=ray", "execution.rounds_ahead=0"]

pytestmark = pytest.mark.ray


@pytest.fixture(autouse=True)
def _where_actors_look_for_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(prototype_stages.__file__).parent)


def run_of(chain: str, *stages: str) -> list[str]:
    """Two rounds with a chain behind these stages."""
    more, own = CHAINS[chain]
    return ["rounds=2", *more, f"aggregation.stages=[{', '.join([*stages, *own])}]"]


@pytest.mark.parametrize("chain", CHAINS)
def test_two_actors_of_which_one_dies_come_to_the_bits_of_one_process(
    tmp_path: Path, ray_session: Any, chain: str
) -> None:
    mark = tmp_path / "died"
    run = run_of(chain, f"{{name: 'prototype_stages:Dying', args: {{mark: {mark}}}}}")
    found = final_sha256(digits(tmp_path, *run, *ACTORS, "execution.actors=2"))
    assert mark.exists()
    assert final_sha256(digits(tmp_path, *run)) == found


@pytest.mark.parametrize(("chain", "actors"), [("gaussian", 1), ("gaussian", 4), ("compressed both ways", 4)])
def test_any_number_of_actors_comes_to_the_bits_of_one_process(
    tmp_path: Path, ray_session: Any, chain: str, actors: int
) -> None:
    run = run_of(chain)
    expected = final_sha256(digits(tmp_path, *run))
    assert final_sha256(digits(tmp_path, *run, *ACTORS, f"execution.actors={actors}")) == expected


def test_the_server_takes_a_step_in_empty_rounds_on_actors(tmp_path: Path, ray_session: Any) -> None:
    run = [*run_of("gaussian"), "selection=poisson", "cohort=1", "rounds=6"]
    expected = final_sha256(digits(tmp_path, *run))
    assert final_sha256(digits(tmp_path, *run, *ACTORS, "execution.actors=2")) == expected
