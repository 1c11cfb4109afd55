"""q-FedAvg, TERM and AFL against plain loops after the papers' pseudo-code."""

from __future__ import annotations

import numpy as np
import pytest
from plain_federation import Plain, Run, experiment_of

ROUNDS = 4
UNIFORM = "aggregation.weights=uniform"


@pytest.mark.parametrize("q", [0.5, 2.0])
def test_qfedavg_follows_algorithm_2_of_the_paper(q: float) -> None:
    run = Run(experiment_of({"name": "qfedavg", "q": q, "low": 0.01}))
    plain = Plain(run)
    w, lipschitz = plain.w, 1 / plain.lr
    for number in range(1, ROUNDS + 1):
        deltas, steps = 0.0, 0.0
        for client, p in plain.cohort(number):
            loss, move = plain.loss(w, client), lipschitz * (w - plain.local(w, number, client))
            deltas = deltas + p * loss**q * move
            steps += p * (q * loss ** (q - 1) * move @ move + lipschitz * loss**q)
        w = w - deltas / steps
    np.testing.assert_allclose(run.rounds(ROUNDS), w, rtol=0, atol=3e-6)


@pytest.mark.parametrize("t", [1.5, -1.0])
def test_term_tilts_the_weights_by_the_loss(t: float) -> None:
    run = Run(experiment_of({"name": "term", "t": t}))
    plain = Plain(run)
    w = plain.w
    for number in range(1, ROUNDS + 1):
        cohort = list(plain.cohort(number))
        tilted = np.array([p * np.exp(t * plain.loss(w, client)) for client, p in cohort])
        arrived = [plain.local(w, number, client) for client, _ in cohort]
        w = sum(share * mine for share, mine in zip(tilted / tilted.sum(), arrived, strict=True))
    np.testing.assert_allclose(run.rounds(ROUNDS), w, rtol=0, atol=3e-6)


def test_losses_beyond_the_stated_range_count_as_its_ends() -> None:
    wide, narrow = (Run(experiment_of({"name": "term", "t": 1.0, "high": high})) for high in (10.0, 0.5))
    flat = Run(experiment_of("fedavg"))
    assert not np.allclose(wide.rounds(1), flat.rounds(1), atol=1e-5)
    np.testing.assert_allclose(narrow.rounds(1), flat.model, atol=1e-6)  # all first losses are above 0.5


@pytest.mark.parametrize(("domains", "cohort"), [(6, 4), (6, 6), (2, 4)])
def test_afl_follows_algorithm_1_of_the_paper(domains: int, cohort: int) -> None:
    rate = 0.4
    experiment = experiment_of({"name": "afl", "domains": domains, "rate": rate}, f"cohort={cohort}", UNIFORM)
    run = Run(experiment)
    plain = Plain(run)
    w, mixture = plain.w, np.full(domains, 1 / domains)
    for number in range(1, ROUNDS + 1):
        present = [client for client, _ in plain.cohort(number)]
        share = np.array([mixture[client % domains] for client in present])
        arrived = [plain.local(w, number, client) for client in present]
        losses: dict[int, list[float]] = {}
        for client in present:
            losses.setdefault(client % domains, []).append(plain.loss(w, client))
        here = sorted(losses)
        total, risen = mixture[here].sum(), mixture[here] + rate * np.array([np.mean(losses[d]) for d in here])
        w = w + sum(s * (mine - w) for s, mine in zip(share, arrived, strict=True)) / share.sum()
        low, high = risen.min() - total, risen.max()  # of the shift that makes what is left of them sum to the total
        for _ in range(100):
            shift = (low + high) / 2
            low, high = (shift, high) if np.maximum(risen - shift, 0).sum() > total else (low, shift)
        mixture[here] = np.maximum(risen - shift, 0)
    np.testing.assert_allclose(run.rounds(ROUNDS), w, rtol=0, atol=3e-6)


def test_afl_serves_the_worst_client_better_than_fedavg() -> None:
    worst = {}
    for name in ("fedavg", "afl"):
        run = Run(experiment_of(name, "cohort=6", "client.epochs=1", UNIFORM), sizes=[40, 30, 12, 9, 20, 8])
        plain, model = Plain(run), run.rounds(60)
        worst[name] = max(plain.loss(model, client) for client in range(6))
    assert worst["afl"] < 0.95 * worst["fedavg"]
