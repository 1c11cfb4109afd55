"""The pooled baseline against a plain loop over all samples, and as a user meets it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from federations import digits
from listed_federation import ListedFederation, ListedSpec
from plain_federation import SIZES, Plain, Run, experiment_of
from plain_orders import orders

from raysim import Simulation
from raysim.data import PooledFederation, PooledSpec
from raysim.execution.preparation.prepare import prepare_job
from raysim.training import LocalWork


def test_centralised_training_is_a_plain_loop_over_all_samples() -> None:
    run = Run(experiment_of("centralised"), federation=PooledFederation(ListedFederation(SIZES, SIZES)))
    plain, total = Plain(run), sum(SIZES)
    work, w = LocalWork(5, plain.epochs), plain.w
    for number in (1, 2, 3):
        for index in orders(run.experiment.seed, number, 0, total, work):
            w = w - plain.lr * plain.grad(w, 0, index.numpy())
    np.testing.assert_allclose(run.rounds(3), w, rtol=0, atol=5e-6)


def test_the_pool_has_every_training_sample_once_and_leaves_holdouts_where_they_are() -> None:
    one = ListedFederation([3, 0, 5], [2, 4, 0], validation=7)
    spec = PooledSpec(ListedSpec(one))
    pooled = spec.open()
    assert pooled.fingerprint == spec.fingerprint != one.fingerprint
    assert pooled.sizes().tolist() == [8, 0, 0]
    assert pooled.sizes("train", np.array([2, 0])).tolist() == [0, 8]
    assert [len(pooled.shard(client)) for client in range(3)] == [8, 0, 0]
    np.testing.assert_array_equal(pooled.shard(0).x, np.concatenate([one.shard(0).x, one.shard(2).x]))
    np.testing.assert_array_equal(pooled.shard(0).y, np.concatenate([one.shard(0).y, one.shard(2).y]))
    assert pooled.sizes("holdout").tolist() == [2, 4, 0]
    np.testing.assert_array_equal(pooled.shard(1, "holdout").x, one.shard(1, "holdout").x)
    samples = pooled.server("validation")
    assert samples is not None
    assert len(samples) == 7


def test_a_configuration_needs_but_another_algorithm_and_keeps_what_clients_are_evaluated_on(tmp_path: Path) -> None:
    federated = prepare_job(digits(tmp_path, "rounds=2"))
    with Simulation(digits(tmp_path, "rounds=2", "algorithm=centralised")) as simulation:
        rounds = list(simulation)
    for one in rounds:
        assert one.row.cohort == 1
        assert one.clients["client"].to_pylist() == [0]
        assert one.clients["samples"].to_pylist() == [int(federated.federation.sizes().sum())]
    assert {"test/accuracy", "clients/accuracy/worst10"} <= rounds[-1].metrics.keys()
    assert rounds[-1].metrics["test/accuracy"] > 0.8
