"""Adaptive server optimisers and extrapolation against plain loops after the papers' pseudo-code."""

from __future__ import annotations

import numpy as np
import pytest
from plain_federation import Plain, Run, experiment_of

ROUNDS = 4
KNOBS = {"server_lr": 0.03, "beta1": 0.6, "tau": 0.01}


@pytest.mark.parametrize("name", ["fedadagrad", "fedadam", "fedyogi"])
def test_adaptive_optimisers_follow_algorithm_2_of_the_paper(name: str) -> None:
    beta2 = {} if name == "fedadagrad" else {"beta2": 0.8}
    run = Run(experiment_of({"name": name, **KNOBS, **beta2}))
    plain = Plain(run)
    w, m, v = plain.w, 0.0, KNOBS["tau"] ** 2
    for number in range(1, ROUNDS + 1):
        delta = sum(p * (plain.local(w, number, client) - w) for client, p in plain.cohort(number))
        m = KNOBS["beta1"] * m + (1 - KNOBS["beta1"]) * delta
        if name == "fedadagrad":
            v = v + delta**2
        elif name == "fedadam":
            v = 0.8 * v + 0.2 * delta**2
        else:
            v = v - 0.2 * delta**2 * np.sign(v - delta**2)
        w = w + KNOBS["server_lr"] * m / (np.sqrt(v) + KNOBS["tau"])
    np.testing.assert_allclose(run.rounds(ROUNDS), w, rtol=0, atol=5e-6)


def test_server_momentum_follows_a_plain_loop() -> None:
    run = Run(experiment_of({"name": "fedavgm", "server_momentum": 0.8, "server_lr": 0.5}))
    plain = Plain(run)
    w, v = plain.w, 0.0
    for number in range(1, ROUNDS + 1):
        v = 0.8 * v + sum(p * (plain.local(w, number, client) - w) for client, p in plain.cohort(number))
        w = w + 0.5 * v
    np.testing.assert_allclose(run.rounds(ROUNDS), w, rtol=0, atol=2e-6)


@pytest.mark.parametrize("epsilon", [0.0, 1e-3])
def test_fedexp_goes_as_far_as_equation_9_says(epsilon: float) -> None:
    run = Run(experiment_of({"name": "fedexp", "epsilon": epsilon}))
    plain, rates = Plain(run), []
    w = plain.w
    for number in range(1, ROUNDS + 1):
        deltas = [(p, plain.local(w, number, client) - w) for client, p in plain.cohort(number)]
        mean = sum(p * delta for p, delta in deltas)
        norms = sum(p * delta @ delta for p, delta in deltas)
        rates.append(max(1.0, norms / (2 * (mean @ mean + epsilon))))
        w = w + rates[-1] * mean
    assert max(rates) > 1
    np.testing.assert_allclose(run.rounds(ROUNDS), w, rtol=0, atol=5e-6)
