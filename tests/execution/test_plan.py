from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

from raysim import Experiment
from raysim.data import DataInfo
from raysim.errors import PlacementError
from raysim.execution.clients.worker import ClientWorker
from raysim.execution.inprocess.whole_round import whole_round
from raysim.execution.placement.memory import CUDA_CONTEXT, Skeleton, actor_memory, gpu_fraction
from raysim.execution.placement.placing import ACTOR_BYTES, Placement, Seat
from raysim.execution.placement.slots import Node, Share
from raysim.execution.preparation.estimate import make_plan, plan_round
from raysim.execution.preparation.prepare import Prepared, prepare_job
from raysim.execution.server.server import Server
from raysim.rounds.lease import Lease
from raysim.rounds.results import ServerHandle
from raysim.rounds.task import RoundWork
from raysim.selection.cohort import draw_cohort, draw_round
from raysim.training import activation_bytes
from raysim.training.losses import cross_entropy


def _seed_of_nobody() -> int:
    """A seed whose first cohort, of one client of five in the mean, is empty."""
    rare = {"cohort": 1, "selection": "poisson", "data": {"partition": {"clients": 5}}}
    return next(s for s in range(100) if not len(draw_cohort(Experiment.parse(rare | {"seed": s}), 5, 1)))


LAPTOP = Node("laptop", cpus=4.0, gpus=0.0, memory=8_000_000_000)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYSIM_CACHE", str(tmp_path))


def prepared(**sections: Any) -> Prepared:
    """Five clients with 1 to 21 samples of 16 features, 3 classes."""
    rng = np.random.default_rng(0)
    owner = np.repeat(np.arange(5), [1, 6, 11, 16, 21])
    data = {
        "x": rng.random((55, 16), dtype=np.float32),
        "y": rng.integers(0, 3, 55),
        "client": owner,
        "x_test": rng.random((9, 16), dtype=np.float32),
        "y_test": rng.integers(0, 3, 9),
    }
    values = {"data": {"partition": "natural"}, "cohort": 5, "model": {"name": "mlp", "hidden": [32]}} | sections
    return prepare_job(Experiment.parse(values), data=data)


def actors(count: int) -> Placement:
    return Placement(count * (Seat("laptop"),), (Share(1, 0),), {"laptop": count})


def test_an_actor_holds_the_vectors_that_its_worker_allocates() -> None:
    job = prepared()
    memory = actor_memory(job.job)
    worker = ClientWorker(job.job, 0)
    assert worker.trainer.engine.rows.numel() == job.columns
    kept = [worker._broadcast, worker.evaluator._row, worker.trainer.engine.rows, worker.trainer.engine.grad]
    update_and_autograd = 2 * job.columns * 4
    assert memory.model == sum(tensor.nbytes for tensor in kept) + update_and_autograd
    assert memory.process == ACTOR_BYTES
    assert memory.shard == 55 * (16 * 4 + 8)
    assert memory.gpu == 0
    worker.evaluator.exact_sums(worker.federation.server("test"), key="test")
    [[batch]] = worker.evaluator._resident._kept.values()
    assert memory.sets == batch.x.nbytes + batch.y.nbytes == 9 * (16 * 4 + 8)
    assert memory.total == memory.process + memory.model + memory.optimizer + memory.sums + memory.shard + memory.sets


@pytest.mark.parametrize(
    ("optimizer", "vectors"), [("sgd", 0), ({"name": "sgd", "momentum": 0.9}, 1), ("adam", 2), ("adamw", 2)]
)
def test_the_optimisers_state_is_counted(optimizer: Any, vectors: int) -> None:
    job = prepared(client={"optimizer": optimizer})
    assert actor_memory(job.job).optimizer == vectors * job.columns * 4


def test_an_algorithm_without_local_steps_has_no_optimiser() -> None:
    assert actor_memory(prepared(algorithm="fedsgd", client={"optimizer": "adam"}).job).optimizer == 0


@pytest.mark.parametrize(
    ("algorithm", "rows", "gradients"),
    [
        ("fedavg", 0, 0),
        ("perfedavg", 1, 1),  # which takes a gradient while it still has another one
        ("mimelite", 1, 2),  # of whole shards: the rows meanwhile, a sum, what is returned
        ("mime", 2, 3),
    ],
)
def test_gradients_that_an_algorithm_asks_for_by_themselves_are_counted(
    algorithm: Any, rows: int, gradients: int
) -> None:
    job = prepared(algorithm=algorithm).job
    worker, skeleton = ClientWorker(job, 0), Skeleton.of(job)
    columns, trainable = worker.trainer.engine.rows.shape[1], worker.trainer.engine.grad.shape[1]
    matrices, plain = skeleton.algorithm.matrices, actor_memory(prepared().job).model
    expected = 4 * (skeleton.shared_values + (rows + matrices) * columns + gradients * trainable)
    assert actor_memory(job, skeleton).model - plain == expected
    task = draw_round(job.experiment, prepared().federation, worker.trainer.work, 2)
    server = Server(job)
    state, model = server.first()
    whole_round(worker, server, RoundWork(task), ServerHandle(state, model, server.shared(state)), None)
    assert (worker.trainer.engine._spare is not None) == (gradients in (1, 3))


@pytest.mark.parametrize(("execution", "samples"), [({}, 55), ({"shard_memory": 0}, 21), ({"shard_memory": 2160}, 30)])
def test_shards_are_kept_as_far_as_their_memory_goes_but_never_less_than_a_block(execution: Any, samples: int) -> None:
    memory = actor_memory(prepared(execution=execution).job)
    assert memory.shard == samples * (16 * 4 + 8)


def test_an_actor_of_one_client_keeps_no_other_clients_shard() -> None:
    assert actor_memory(prepared(execution={"clients_per_actor": 1}).job).shard == 21 * (16 * 4 + 8)


def test_a_gpu_has_a_broadcast_of_its_own_and_a_context_beside_what_torch_takes() -> None:
    job = prepared().job
    on_gpu = actor_memory(replace(job, engine=replace(job.engine, device="cuda")))
    assert on_gpu.model - actor_memory(job).model == 4 * prepared().columns
    assert on_gpu.gpu == CUDA_CONTEXT + on_gpu.model + on_gpu.optimizer + on_gpu.sums + on_gpu.shard + on_gpu.sets
    assert gpu_fraction(0.25, 16 << 30) == pytest.approx(0.25 - CUDA_CONTEXT / (16 << 30))
    assert gpu_fraction(2, 16 << 30) == pytest.approx(1 - CUDA_CONTEXT / (16 << 30))


@pytest.mark.parametrize("exact", [True, False])
def test_the_sums_of_a_round_are_as_large_as_planned(exact: bool) -> None:
    job = prepared(execution={"executor": "inprocess"}, aggregation={"exact": exact})
    planned = plan_round(job, None)
    task = draw_round(job.experiment, job.federation, job.work, 1)
    lease = Lease.of(task, np.arange(len(task.clients)))
    total, report = ClientWorker(job.job, 0).train(lease, np.zeros(job.columns, np.float32))
    assert planned.transport_up == total.nbytes == report.transport_up
    assert planned.transport_down == 4 * job.columns
    assert planned.leases == 1
    assert actor_memory(job.job).sums == sum(values.nbytes for values in total.totals.values())


def test_steps_are_those_of_the_whole_population() -> None:
    planned = plan_round(prepared(cohort=1, client={"batch_size": 5, "epochs": 2}), None)
    assert planned.cohort == 1
    assert planned.steps == (2, 6.0, 10)


def test_clients_are_spread_over_the_actors_longest_first() -> None:
    planned = plan_round(prepared(client={"batch_size": 1}), actors(2))
    assert planned.leases == 2
    assert planned.imbalance == pytest.approx(28 / 27.5)  # 21 + 6 + 1 against 16 + 11


def test_clients_with_actors_of_their_own_wait_for_the_longest() -> None:
    plan = make_plan(prepared(client={"batch_size": 1}, execution={"clients_per_actor": 2}), [LAPTOP])
    assert plan.placement is not None
    assert plan.placement.actors == plan.round.leases == 3
    assert plan.round.imbalance == pytest.approx(27 / (55 / 3))  # the loads are 1 + 6, 11 + 16 and 21


def test_rounds_that_one_worker_is_done_with_first_go_together_up_to_a_checkpoint() -> None:
    every = {"tracking": {"checkpoint_every": 4}}
    planned = plan_round(prepared(client={"batch_size": 20}, **every), actors(2))  # 6 steps of a guessed ms
    assert planned.alone < planned.shared
    assert planned.batch == 4
    for section in ({"rounds_ahead": 0}, {"executor": "inprocess"}, {"clients_per_actor": 3}):
        assert plan_round(prepared(execution=section, **every), actors(2)).batch == 0
    many = prepared(client={"batch_size": 1}, **every)
    long = plan_round(replace(many, engine=replace(many.engine, a_step=1e-3)), actors(2))
    assert (long.batch, long.workers) == (0, 2)
    assert long.alone > long.shared


def test_a_step_that_was_timed_is_planned_with_as_measured() -> None:
    job = prepared()
    guessed = plan_round(job, actors(2))
    assert (guessed.timed, guessed.a_step) == (False, 1e-3)
    timed = plan_round(replace(job, engine=replace(job.engine, a_step=1e-5)), actors(2))
    assert (timed.timed, timed.a_step) == (True, 1e-5)
    steps = sum(-(-count // 10) for count in (1, 6, 11, 16, 21))
    assert guessed.alone - timed.alone == pytest.approx(steps * (1e-3 - 1e-5))


def test_an_empty_cohort_has_nothing_to_lease() -> None:
    planned = plan_round(prepared(cohort=1, selection="poisson", seed=_seed_of_nobody()), actors(4))
    assert (planned.leases, planned.transport_down, planned.transport_up, planned.imbalance) == (0, 0, 0, 1.0)


def test_a_plan_times_the_engine_that_was_not_timed_to_be_chosen() -> None:
    job = prepared(training={"engine": "rows", "rows": 3, "compile": False})
    assert job.engine.a_step is None
    planned = make_plan(job, [LAPTOP]).round
    assert planned.timed
    assert 0 < planned.a_step < 1
    assert not make_plan(prepared(cohort=1, selection="poisson", seed=_seed_of_nobody()), [LAPTOP]).round.timed


def test_a_run_in_process_is_placed_nowhere() -> None:
    plan = make_plan(prepared(execution={"executor": "inprocess"}), [LAPTOP])
    assert plan.placement is None
    assert plan.nodes == (LAPTOP,)


def test_actors_that_the_memory_does_not_hold_are_refused() -> None:
    small = replace(LAPTOP, memory=2 * ACTOR_BYTES)
    with pytest.raises(
        PlacementError, match="4 actors of about 180 MiB need more than the 360 MiB that node laptop has"
    ):
        make_plan(prepared(execution={"actors": 4}), [small])
    placement = make_plan(prepared(), [small]).placement
    assert placement is not None
    assert placement.actors < 4, "without a number asked for, as many as the memory holds"


def test_activations_are_what_autograd_keeps() -> None:
    """Of two layers on 5 samples: their inputs, and what the loss keeps; found out without a value."""
    info = DataInfo("classification", (4,), "real", (), 3)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    kept = activation_bytes(model, info, cross_entropy, 5)
    x, y, weight = 5 * 4, 5 * 8, 5 * 3
    assert kept is not None
    assert 4 * (x + y + weight) <= kept <= 4 * (x + 2 * y + 2 * weight) + 2 * 8 * 5 + 16
    assert activation_bytes(model, info, cross_entropy, 10) in range(2 * kept - 32, 2 * kept + 1)
    model[0].requires_grad_(False)
    frozen = activation_bytes(model, info, cross_entropy, 5)
    assert frozen is not None
    assert frozen <= kept - 4 * x


def test_activations_computed_anew_or_in_16_bits_are_fewer() -> None:
    info = DataInfo("classification", (16,), "real", (), 3)
    blocks = (nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 16)) for _ in range(8))
    layers = nn.Sequential(*blocks, nn.Linear(16, 3))
    whole = activation_bytes(layers, info, cross_entropy, 32)
    again = activation_bytes(layers, info, cross_entropy, 32, checkpointing=True)
    half = activation_bytes(layers, info, cross_entropy, 32, bf16=True)
    assert whole is not None
    assert again is not None
    assert half is not None
    assert again < 0.7 * whole
    assert 0.4 * whole < half < 0.6 * whole


def test_a_model_that_needs_values_has_no_known_activations() -> None:
    class Looks(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x if float(x.sum()) > 0 else -x)

    assert activation_bytes(Looks(4, 3), DataInfo("classification", (4,), "real", (), 3), cross_entropy, 2) is None
