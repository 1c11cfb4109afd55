"""What a worker leaves as it found it: generators, thread counts, the broadcast, the bits of every client."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from listed_federation import ListedFederation, ListedSpec
from torch import nn

from raysim.aggregation import combine
from raysim.algorithms import Algorithm
from raysim.config import Experiment
from raysim.data import Samples
from raysim.errors import ClientError, RunError
from raysim.execution.clients.worker import ClientWorker
from raysim.rounds.environment import bits_fingerprint, environment
from raysim.rounds.faults import part
from raysim.rounds.job import Job
from raysim.rounds.lease import Lease
from raysim.rounds.ranges import ServerRange
from raysim.rounds.task import RoundTask
from raysim.selection.cohort import draw_round
from raysim.training import EngineChoice, Some, torch_threads

ENGINE = EngineChoice("sequential")
SIZES = [12, 30, 0, 7, 18]


def experiment_of(**values: Any) -> Experiment:
    defaults = {
        "cohort": 1.0,
        "data": {"partition": "natural"},
        "model": {"name": "mlp", "hidden": [6], "dropout": 0.5},
        "client": {"batch_size": 5, "epochs": 2},
    }
    return Experiment.parse(defaults | values)


def worker_of(
    experiment: Experiment, federation: ListedFederation, index: int = 0, engine: EngineChoice = ENGINE
) -> ClientWorker:
    return ClientWorker(Job(experiment, ListedSpec(federation), engine), index)


def first_model(worker: ClientWorker) -> Any:
    layout = worker.algorithm.layout
    model = layout.pack(worker.job.build_module(worker.federation.info)).numpy()
    model.flags.writeable = False
    return model


def round_of(worker: ClientWorker, number: int = 1) -> RoundTask:
    return draw_round(worker.job.experiment, worker.federation, worker.trainer.work, number)


def test_a_lease_names_every_client_and_what_it_did() -> None:
    worker = worker_of(experiment_of(), ListedFederation(SIZES), index=3)
    total, report = worker.train(Lease.of(round_of(worker), range(5)), first_model(worker))
    assert total.positions.tolist() == [0, 1, 2, 3, 4]
    assert report.positions.tolist() == [0, 1, 2, 3, 4]
    facts = report.facts
    assert facts["samples"].to_pylist() == [12, 30, 0, 7, 18]
    assert facts["steps"].to_pylist() == [6, 12, 0, 4, 8]
    np.testing.assert_allclose(facts["weight"].to_numpy(), np.array([12, 30, 0, 7, 18]) / 67)
    assert facts["worker"].to_pylist() == [3] * 5
    assert facts["dropped"].null_count == 5
    losses = facts["loss"].to_numpy(zero_copy_only=False)
    assert np.isfinite(losses[[0, 1, 3, 4]]).all()
    assert np.isnan(losses[2])
    assert total.weight / 2**52 == pytest.approx(1.0)


@pytest.mark.parametrize("weights", ["samples", "loss"])
def test_leases_of_any_cut_on_any_worker_add_up_to_the_same_bits(weights: str) -> None:
    experiment = experiment_of(aggregation={"weights": weights})
    alone = worker_of(experiment, ListedFederation(SIZES))
    task, model = round_of(alone), first_model(alone)
    expected, _ = alone.train(Lease.of(task, range(5)), model)
    others = [worker_of(experiment, ListedFederation(SIZES), i) for i in range(2)]
    others[0].train(Lease.of(round_of(others[0]), [1]), model)  # has trained before
    cuts = [(1, [3]), (0, [4, 0]), (0, [2]), (1, [1])]
    found = combine([others[i].train(Lease.of(task, positions), model)[0] for i, positions in cuts])
    assert found.weight == expected.weight
    np.testing.assert_array_equal(found.positions, expected.positions)
    np.testing.assert_array_equal(found.totals["update"], expected.totals["update"])


@pytest.mark.parametrize("resampling", ["none", "balanced"])
def test_a_turn_keys_all_that_a_client_draws_by_itself(resampling: str) -> None:
    experiment = experiment_of(client={"batch_size": 5, "epochs": 2, "resampling": resampling})
    worker = worker_of(experiment, ListedFederation([30, 30, 18]))
    model, rounds = first_model(worker), {number: round_of(worker, number) for number in (3, 5)}
    mixed = replace(rounds[3], turn=np.array([3, 5, 3]))
    first, second, third = Lease.of(mixed, [0, 1, 2]).cut(1)
    for lease, number in ((first, 3), (second, 5), (part(third, [0]), 3)):
        assert lease.turn.tolist() == [number]
        found, _ = worker.train(lease, model)
        expected, _ = worker.train(Lease.of(rounds[number], lease.positions), model)
        np.testing.assert_array_equal(found.totals["update"], expected.totals["update"])
    other, _ = worker.train(Lease.of(rounds[3], [1]), model)
    assert (worker.train(second, model)[0].totals["update"] != other.totals["update"]).any()


def test_the_callers_generator_and_threads_are_as_before() -> None:
    worker = worker_of(experiment_of(), ListedFederation(SIZES, SIZES, test=9))
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with torch_threads(2):
        worker.train(Lease.of(round_of(worker), range(5)), first_model(worker))
        worker.evaluate([ServerRange("test", 0, 9)], first_model(worker))
        assert torch.get_num_threads() == 2
    assert torch.equal(torch.get_rng_state(), before)


def test_the_broadcast_is_read_only_and_read_once() -> None:
    worker = worker_of(experiment_of(), ListedFederation(SIZES))
    model = first_model(worker)
    before = model.copy()
    task = round_of(worker)
    one, _ = worker.train(Lease.of(task, range(5)), model)
    np.testing.assert_array_equal(model, before)
    kept = {name: total.copy() for name, total in one.totals.items()}
    worker.train(Lease.of(replace(task, round=2, turn=task.turn + 1), range(5)), model)
    np.testing.assert_array_equal(one.totals["update"], kept["update"])  # a sealed sum is final


def test_clients_of_whom_the_model_makes_nothing_finite_are_dropped_and_named() -> None:
    class Broken(ListedFederation):
        def shard(self, client: int, part: Any = "train") -> Samples:
            shard = super().shard(client, part)
            return Samples(np.full_like(shard.x, np.nan), shard.y) if client in (1, 3) else shard

    for weights, reason in (
        ("samples", "update is not finite in hidden1.weight"),
        ("loss", "its loss under the broadcast model is not finite"),
    ):
        experiment = experiment_of(aggregation={"weights": weights})
        worker, whole = worker_of(experiment, Broken(SIZES)), worker_of(experiment, ListedFederation(SIZES))
        task, model = round_of(worker), first_model(worker)
        total, report = worker.train(Lease.of(task, range(5)), model)
        dropped = dict(zip(report.facts["client"].to_pylist(), report.facts["dropped"].to_pylist(), strict=True))
        assert dropped == {0: None, 1: reason, 2: None, 3: reason, 4: None}
        assert total.positions.tolist() == [0, 2, 4]
        healthy, _ = whole.train(Lease.of(task, [0, 2, 4]), model)
        np.testing.assert_array_equal(total.totals["update"], healthy.totals["update"])


class Nans(ListedFederation):
    """Clients 1 and 3 have features that are no numbers."""

    def shard(self, client: int, part: Any = "train") -> Samples:
        shard = super().shard(client, part)
        return Samples(np.full_like(shard.x, np.nan), shard.y) if client in (1, 3) else shard


@pytest.mark.parametrize("rows", [1, 2, 3, 64])
@pytest.mark.parametrize("weights", ["samples", "loss"])
def test_clients_of_nans_among_the_rows_are_dropped_and_named_and_the_others_keep_their_bits(
    rows: int, weights: str
) -> None:
    experiment = experiment_of(aggregation={"weights": weights}, model={"name": "mlp", "hidden": [6]})
    engine = EngineChoice("rows", rows)
    broken, whole = (worker_of(experiment, kind(SIZES), engine=engine) for kind in (Nans, ListedFederation))
    task, model = round_of(broken), first_model(broken)
    total, report = broken.train(Lease.of(task, range(5)), model)
    assert report.facts["client"].to_pylist() == [0, 1, 2, 3, 4]
    reason = "its loss under the broadcast model is not finite"
    if weights == "samples":
        reason = "update is not finite in hidden1.weight"
    assert report.facts["dropped"].to_pylist() == [None, reason, None, reason, None]
    assert total.positions.tolist() == [0, 2, 4]
    healthy, expected = whole.train(Lease.of(task, [0, 2, 4]), model)
    np.testing.assert_array_equal(total.totals["update"], healthy.totals["update"])
    assert total.weight == healthy.weight
    losses = dict(zip(report.facts["client"].to_pylist(), report.facts["loss"].to_pylist(), strict=True))
    for client, loss in zip(expected.facts["client"].to_pylist(), expected.facts["loss"].to_pylist(), strict=True):
        np.testing.assert_array_equal(losses[client], loss)


@pytest.mark.parametrize("weights", ["samples", "loss"])
def test_leases_of_any_cut_add_up_to_the_same_bits_with_any_number_of_rows(weights: str) -> None:
    experiment = experiment_of(aggregation={"weights": weights}, model={"name": "mlp", "hidden": [6]})
    workers = [worker_of(experiment, ListedFederation(SIZES), engine=EngineChoice("rows", k)) for k in (64, 1, 3)]
    task, model = round_of(workers[0]), first_model(workers[0])
    expected, _ = workers[0].train(Lease.of(task, range(5)), model)
    for cuts in ([(1, [0, 1, 2, 3, 4])], [(2, [3]), (0, [4, 0]), (1, [2]), (2, [1])], [(2, [4, 1, 2]), (0, [0, 3])]):
        found = combine([workers[i].train(Lease.of(task, positions), model)[0] for i, positions in cuts])
        assert found.weight == expected.weight
        np.testing.assert_array_equal(found.totals["update"], expected.totals["update"])


@pytest.mark.parametrize("rows", [1, 2, 64])
def test_a_client_whose_data_fails_among_the_rows_is_named_alone(rows: int) -> None:
    class Failing(ListedFederation):
        def shard(self, client: int, part: Any = "train") -> Samples:
            if client == 3:
                raise KeyError("no such shard")
            return super().shard(client, part)

    experiment = experiment_of(model={"name": "mlp", "hidden": [6]})
    worker = worker_of(experiment, Failing(SIZES), engine=EngineChoice("rows", rows))
    with pytest.raises(ClientError) as caught:
        worker.train(Lease.of(round_of(worker), range(5)), first_model(worker))
    assert str(caught.value) == "client 3, round 1: KeyError: 'no such shard'"


class FailsFor3(Algorithm):
    """An algorithm whose own code fails for client 3, or where two clients meet."""

    paper = "none"

    def correct(self, grad: torch.Tensor, weights: torch.Tensor, b: Some) -> None:
        if 3 in b.clients:
            raise ZeroDivisionError("not for this one")


class FailsTogether(Algorithm):
    """An algorithm that is not written for several rows."""

    paper = "none"

    def correct(self, grad: torch.Tensor, weights: torch.Tensor, b: Some) -> None:
        if len(weights) > 1:
            raise ZeroDivisionError("one at a time")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("FailsFor3", "client 3, round 1: ZeroDivisionError: not for this one"),
        ("FailsTogether", "clients 1, 4, … together, round 1: ZeroDivisionError: one at a time"),
    ],
)
def test_a_client_whose_code_fails_among_the_rows_is_named_alone(name: str, message: str) -> None:
    experiment = experiment_of(model={"name": "mlp", "hidden": [6]}, algorithm=f"test_worker:{name}")
    worker = worker_of(experiment, ListedFederation(SIZES), engine=EngineChoice("rows", 64))
    with pytest.raises(ClientError) as caught:
        worker.train(Lease.of(round_of(worker), range(5)), first_model(worker))
    assert str(caught.value) == message


def test_a_worker_that_cannot_train_rows_as_the_driver_can_says_so() -> None:
    with pytest.raises(RunError, match="this worker cannot train rows as the driver can: its modules draw random"):
        worker_of(experiment_of(), ListedFederation(SIZES), engine=EngineChoice("rows", 4))


def test_an_error_in_a_clients_own_data_names_the_client_and_the_round() -> None:
    class Failing(ListedFederation):
        def shard(self, client: int, part: Any = "train") -> Samples:
            if client == 3:
                raise KeyError("no such shard")
            return super().shard(client, part)

    worker = worker_of(experiment_of(), Failing(SIZES))
    with pytest.raises(ClientError, match=r"client 3, round 1: KeyError: 'no such shard'"):
        worker.train(Lease.of(round_of(worker), range(5)), first_model(worker))


def test_everyone_who_asks_a_job_gets_a_module_of_their_own() -> None:
    federation, mine = ListedFederation(SIZES), nn.Linear(4, 3)
    before = mine.weight.clone()
    experiment = experiment_of(model={"name": "in_memory"})
    job = Job(experiment, ListedSpec(federation), ENGINE, mine)
    worker = ClientWorker(job, 0)
    model = first_model(worker)
    worker.train(Lease.of(round_of(worker), range(5)), model)
    assert torch.equal(mine.weight, before)
    assert torch.equal(torch.from_numpy(model.copy())[:12], before.detach().flatten())


def test_threads_are_set_inside_and_restored_after_an_error() -> None:
    outside, inside = torch.get_num_threads(), []

    def fail() -> None:
        with torch_threads(outside + 1):
            inside.append(torch.get_num_threads())
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        fail()
    assert inside == [outside + 1]
    assert torch.get_num_threads() == outside


def test_the_environment_names_what_the_bits_depend_on() -> None:
    job = Job(experiment_of(), ListedSpec(ListedFederation(SIZES)), ENGINE)
    bits = bits_fingerprint(job)
    assert bits == {
        "engine.name": "sequential",
        "engine.rows": 1,
        "engine.compiled": False,
        "engine.precision": "fp32",
        "engine.device": "cpu",
        "engine.threads": 1,
        "torch": torch.__version__,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }
    found = environment(bits_fingerprint(job))
    assert found["bits"] == bits
    assert found["packages"]["torch"] is not None
