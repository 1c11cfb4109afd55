"""The driver's view of a trained round."""

from __future__ import annotations

import math
import pickle
from dataclasses import replace

import numpy as np
import pytest

from raysim.errors import RunError
from raysim.rounds.facts import PackedFacts, cohort_facts, empty_batch, empty_row, round_row, train_loss
from raysim.rounds.lease import Lease, LeaseReport
from raysim.rounds.ranges import Evaluated
from raysim.rounds.results import Applied, RoundFacts, ServerHandle, Trained
from raysim.rounds.rows import CLIENT_SCHEMA, PARTS, client_batch
from raysim.rounds.task import RoundTask

CLIENTS = np.array([3, 8, 9, 40])
TASK = RoundTask.synchronous(5, 0.1, CLIENTS, np.array([0.1, 0.2, 0.3, 0.4]), np.array([2, 4, 6, 8]))
BAD = "update is not finite"
EVALUATED = Evaluated("test", (3, None))


def report(
    positions: list[int],
    *,
    dropped: list[str | None] | None = None,
    weights: list[float] | None = None,
    losses: list[float] | None = None,
    worker: int = 0,
) -> LeaseReport:
    chosen = np.array(positions, dtype=np.int32)
    facts = client_batch(
        round=TASK.round,
        client=CLIENTS[chosen],
        samples=10 * (chosen + 1),
        steps=TASK.steps[chosen],
        weight=TASK.weights[chosen] if weights is None else np.array(weights),
        loss=(chosen + 1.0) if losses is None else np.array(losses),
        seconds=np.ones(len(chosen)),
        worker=np.full(len(chosen), worker),
        dropped=dropped or [None] * len(chosen),
    )
    parts = dict(zip(PARTS, (0.125, 0.25, 1.0, 0.5), strict=True))
    return LeaseReport(facts, chosen, 1, {"broadcast": 0.5, "train": 2.0, **parts}, 100)


def trained(*reports: LeaseReport, workers: int = 2, wall: float = 4.0) -> Trained:
    return Trained((), reports, workers, wall, broadcasts=3)


def test_facts_of_several_leases_are_ordered_by_position() -> None:
    facts = cohort_facts(TASK, trained(report([3, 1], worker=1), report([0]), report([2], worker=2)))
    assert facts.clients["client"].to_pylist() == CLIENTS.tolist()
    assert facts.clients["worker"].to_pylist() == [0, 1, 2, 1]
    assert facts.clients["samples"].to_pylist() == [10, 20, 30, 40]
    assert facts.contributed.tolist() == [0, 1, 2, 3]
    assert facts.contributed.dtype == np.int32
    assert facts.clients.schema.equals(CLIENT_SCHEMA)


def test_weights_are_normalised_over_the_clients_that_made_it() -> None:
    one = report([3, 1], weights=[0.0, 0.05], dropped=[BAD, None])
    facts = cohort_facts(TASK, trained(one, report([0, 2], weights=[0.15, 0.3])))
    np.testing.assert_allclose(facts.clients["weight"].to_numpy(), [0.3, 0.1, 0.6, 0.0], rtol=1e-15)
    assert math.fsum(facts.clients["weight"].to_pylist()) == pytest.approx(1.0, abs=1e-15)
    assert facts.contributed.tolist() == [0, 1, 2]
    assert facts.clients["dropped"].to_pylist() == [None, None, None, BAD]


def test_a_round_in_which_every_client_was_dropped_is_an_error_that_names_the_first() -> None:
    reports = (report([3, 1], dropped=["late", "late"]), report([2, 0], dropped=["late", BAD]))
    with pytest.raises(RunError) as caught:
        cohort_facts(TASK, trained(*reports))
    assert str(caught.value) == (
        f"round 5: every client was dropped; the first, 3, because {BAD}; "
        "lower client.optimizer.lr, set client.clip_norm, or scale features and targets"
    )


def test_clients_of_weight_zero_alone_stay_as_they_are() -> None:
    facts = cohort_facts(TASK, trained(report([0, 1, 2, 3], weights=[0.0] * 4)))
    assert facts.clients["weight"].to_pylist() == [0.0] * 4
    assert facts.contributed.tolist() == [0, 1, 2, 3]  # the server says what is wrong with that


def test_an_empty_cohort_has_no_rows() -> None:
    assert empty_batch().num_rows == 0
    assert empty_batch().schema.equals(CLIENT_SCHEMA)
    assert math.isnan(train_loss(empty_batch()))


def test_the_training_loss_is_weighted_and_leaves_out_who_has_none() -> None:
    facts = cohort_facts(
        TASK,
        trained(report([0, 1, 2, 3], weights=[0.25, 0.0, 0.5, 0.25], losses=[1.0, 9.0, 2.0, math.nan])),
    )
    assert train_loss(facts.clients) == pytest.approx((0.25 * 1 + 0.5 * 2) / 0.75)


def test_a_rounds_row_counts_the_clients_that_trained() -> None:
    what = trained(report([3, 1], weights=[0.0, 0.2], dropped=[BAD, None]), report([0, 2]))
    facts = cohort_facts(TASK, what)
    row = round_row(TASK, facts, what, Applied(ServerHandle(None, None), 0.25, 0.125), model_bytes=1000)
    assert (row.round, row.lr, row.cohort, row.trained, row.dropped, row.clamped) == (5, 0.1, 4, 3, 1, 2)
    assert (row.samples, row.steps) == (10 + 20 + 30, 2 + 4 + 6)
    assert (row.transport_up, row.transport_down) == (200, 3000)
    assert row.metrics == {"train/loss": pytest.approx((0.1 * 1 + 0.2 * 2 + 0.3 * 3) / 0.6)}
    parts = {"train/shards": 0.125, "train/batches": 0.25, "train/steps": 1.0, "train/fold": 0.5}
    phases = {"broadcast": 0.5, "train": 2.0, "wait": 1.5, "reduce": 0.25, "apply": 0.125}
    assert row.seconds == phases | parts


def test_a_round_without_a_loss_records_none() -> None:
    what = trained(report([0, 1, 2, 3], losses=[math.nan] * 4))
    row = round_row(TASK, cohort_facts(TASK, what), what, Applied(ServerHandle(None, None), 0.0, 0.0), 1000)
    assert row.metrics == {}


def test_rounds_come_out_of_the_packet_as_they_went_in() -> None:
    some, others = trained(report([3, 1, 0, 2])), trained(report([1, 3], dropped=[BAD, None]), report([2, 0]))
    rounds = [RoundFacts(empty_row(replace(TASK, clients=CLIENTS[:0])), empty_batch(), ())]
    for what in (some, others):
        facts, applied = cohort_facts(TASK, what), Applied(ServerHandle(None, None), 0.0, 0.0)
        rounds.append(RoundFacts(round_row(TASK, facts, what, applied, 1000), facts.clients, (EVALUATED,)))
    rounds.append(rounds[0])
    for chosen in (rounds, rounds[:1], rounds[1:2], [rounds[0], rounds[3]]):
        assert pickle.loads(pickle.dumps(PackedFacts.of(chosen))).unpacked() == chosen


def test_a_lease_holds_its_clients_longest_first() -> None:
    task = RoundTask.synchronous(
        2, 0.1, np.array([3, 8, 9, 40]), np.array([0.1, 0.2, 0.3, 0.4]), np.array([2, 4, 4, 8])
    )
    lease = Lease.of(task, [2, 0, 3, 1])
    assert lease.positions.tolist() == [3, 1, 2, 0]
    assert lease.positions.dtype == np.int32
    assert lease.clients.tolist() == [40, 8, 9, 3]
    assert lease.weights.tolist() == [0.4, 0.2, 0.3, 0.1]
    assert (lease.round, lease.lr, lease.attempt) == (2, 0.1, 0)
    assert len(Lease.of(task, []).clients) == 0
