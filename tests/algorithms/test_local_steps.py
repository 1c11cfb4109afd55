"""FedProx and FedNova against plain loops, and FedNova's claim against a closed form."""

from __future__ import annotations

import numpy as np
import pytest
from plain_federation import Plain, Run, experiment_of

from raysim.algorithms.normalised import lengths

ROUNDS = 4


def test_fedprox_takes_steps_along_equation_2() -> None:
    run = Run(experiment_of({"name": "fedprox", "mu": 0.7}))
    plain = Plain(run)
    w = plain.w
    for number in range(1, ROUNDS + 1):
        arrived = 0.0
        for client, p in plain.cohort(number):
            mine = w
            for index in plain.batches(number, client):
                mine = mine - plain.lr * (plain.grad(mine, client, index) + 0.7 * (mine - w))
            arrived = arrived + p * mine
        w = arrived
    np.testing.assert_allclose(run.rounds(ROUNDS), w, rtol=0, atol=2e-6)


@pytest.mark.parametrize(("momentum", "mu"), [(0.0, 0.0), (0.8, 0.0), (0.0, 0.5)])
def test_fednova_averages_normalised_updates(momentum: float, mu: float) -> None:
    sgd = f"client.optimizer={{name: sgd, lr: 0.1, momentum: {momentum}}}"
    run = Run(experiment_of({"name": "fednova", "mu": mu}, sgd))
    plain = Plain(run)
    w, lr = plain.w, 0.1
    for number in range(1, ROUNDS + 1):
        direction, reach = 0.0, 0.0
        for client, p in plain.cohort(number):
            mine, velocity, tau = w, 0.0, 0
            for index in plain.batches(number, client):
                velocity = momentum * velocity + plain.grad(mine, client, index) + mu * (mine - w)
                mine, tau = mine - lr * velocity, tau + 1
            length = float(tau)
            if momentum:  # section 4.1 of the paper
                length = (tau - momentum * (1 - momentum**tau) / (1 - momentum)) / (1 - momentum)
            if mu:
                length = (1 - (1 - lr * mu) ** tau) / (lr * mu)
            direction, reach = direction + p * (w - mine) / length, reach + p * length
        w = w - reach * direction
    np.testing.assert_allclose(run.rounds(ROUNDS), w, rtol=0, atol=3e-6)


def test_lengths_are_those_of_accumulated_coefficients() -> None:
    """‖a‖₁ from the coefficient of every gradient in the final update, by unrolling the optimiser."""
    steps, momentum = 7, 0.9
    for nesterov in (False, True):
        reached, velocity = np.zeros(steps), np.zeros(steps)
        for step in range(steps):
            gradient = np.eye(steps)[step]
            velocity = momentum * velocity + gradient
            reached += gradient + momentum * velocity if nesterov else velocity
        assert lengths(steps, 0.1, momentum, nesterov, 0.0)[-1] == pytest.approx(np.abs(reached).sum())


def test_fednova_finds_the_optimum_where_unequal_local_steps_lead_fedavg_astray() -> None:
    """Two quadratics F_k(w) = ½ (w - e_k)², 1 and 9 local steps: FedAvg's fixed point weighs them by
    1 - (1-η)^τ, FedNova's, for small steps, equally, as the objective does (Wang et al. 2020, theorem 1)."""
    optima, steps, lr = np.array([0.0, 1.0]), np.array([1, 9]), 0.01
    contraction = 1 - (1 - lr) ** steps
    length = lengths(int(steps.max()), lr, 0.0, False, 0.0)[steps]
    w_avg = w_nova = 0.5
    for _ in range(2000):
        w_avg += float((0.5 * contraction * (optima - w_avg)).sum())
        w_nova += float((0.5 * length).sum() * (0.5 * contraction * (optima - w_nova) / length).sum())
    assert w_avg == pytest.approx(contraction[1] / contraction.sum())
    assert abs(w_avg - 0.5) > 0.35
    assert abs(w_nova - 0.5) < 0.02
