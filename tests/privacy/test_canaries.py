"""Canaries in a run: what they send, the epsilon that they show, and that it breaks where noise is too small."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from federations import final_sha256

from raysim import Experiment, Simulation
from raysim.auditing import audit_canaries
from raysim.errors import ConfigError, RunError
from raysim.privacy.canaries import audit, gaussians_epsilon
from raysim.privacy.gaussian import gaussian_epsilon

DELTA, NOISE, CLIENTS = 1e-5, 4.0, 600
EXPERIMENT: dict[str, Any] = {
    "rounds": 1,
    "cohort": CLIENTS,
    "data": {"source": {"name": "synthetic_virtual", "clients": CLIENTS}, "partition": "natural", "holdout": 0},
    "model": "softmax",
    "client": {"steps": 1},
    "training": {"engine": "sequential"},
    "aggregation": {
        "weights": "uniform",
        "stages": [
            {"name": "canaries", "first": 0},
            {"name": "clip", "max_norm": 0.5},
            {"name": "gaussian", "noise_multiplier": NOISE},
        ],
    },
    "evaluation": {"every": 0},
    "execution": {"executor": "inprocess"},
    "tracking": {"report": False},
}
ACCOUNTED = gaussian_epsilon(1 / NOISE, DELTA)


def experiment(tmp_path: Path, *overrides: str) -> Experiment:
    return Experiment.parse(EXPERIMENT).updated([f"tracking.directory={tmp_path}", *overrides])


@pytest.mark.parametrize(("sigma", "epsilon"), [(4.22, 1.001), (1.54, 3.008), (0.541, 10.002)])
def test_epsilon_of_equal_spreads_is_that_of_gaussian_noise(sigma: float, epsilon: float) -> None:
    # Andrew et al. 2023, the analytic epsilons of their table 1.
    assert gaussians_epsilon(1 / sigma, 1.0, 1e-6) == pytest.approx(epsilon, abs=6e-4)
    assert gaussian_epsilon(1 / sigma, 1e-6) == pytest.approx(epsilon, abs=6e-4)


def test_what_is_kept_of_nothing_is_nothing() -> None:
    generator, d = np.random.default_rng(0), 2000
    directions = [one / np.linalg.norm(one) for one in generator.standard_normal((400, d))]
    found = audit(generator.standard_normal(d), directions, d, DELTA, 0.95, 0)
    assert found.mean == pytest.approx(0, abs=0.15)
    assert found.spread == pytest.approx(1, abs=0.1)
    assert found.low < 0.3


def test_the_epsilon_of_a_run_is_found_in_its_model_and_halved_noise_breaks_the_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Simulation(experiment(tmp_path)) as sound:
        sound.run()
    honest = audit_canaries(sound.directory, delta=DELTA)
    assert honest.canaries == CLIENTS
    assert honest.low < ACCOUNTED
    assert honest.epsilon == pytest.approx(ACCOUNTED, rel=0.5)
    monkeypatch.setattr("raysim.privacy.central.remaining", lambda multiplier, spent: multiplier / 2)  # the mistake
    with Simulation(experiment(tmp_path)) as broken:
        broken.run()
    assert audit_canaries(broken.directory, delta=DELTA).low > ACCOUNTED


def test_silent_canaries_send_zeros_and_clients_before_the_first_send_their_own(tmp_path: Path) -> None:
    stages = "aggregation.stages=[{name: canaries, first: 590, silent: 0.5}, {name: clip, max_norm: 0.5}]"
    with Simulation(experiment(tmp_path, stages)) as simulation:
        simulation.run()
    found = audit_canaries(simulation.directory)
    assert found.canaries + found.silent == 10
    assert 0 < found.silent < 10
    none = "aggregation.stages=[{name: canaries, first: 600}]"
    with pytest.raises(ConfigError, match="there is no canary"):
        final_sha256(experiment(tmp_path, none))
    with Simulation(experiment(tmp_path, "aggregation.stages=[]")) as plain:
        plain.run()
    with pytest.raises(RunError, match="no client was a canary"):
        audit_canaries(plain.directory)
