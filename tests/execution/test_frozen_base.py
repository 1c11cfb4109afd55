"""A frozen base lies in a process once, however many modules use it; whoever writes to it is told so."""

from __future__ import annotations

import gc
import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import frozen_bases
import pytest
import torch
from federations import final_sha256, sha256
from frozen_bases import BASE_BYTES, WIDTH, Adapted, Teaching, arrays
from torch import Tensor, nn

from raysim import Experiment, Simulation
from raysim.errors import ModelError, PlacementError, RunError
from raysim.execution.clients.worker import ClientWorker
from raysim.execution.inprocess.whole_round import whole_round
from raysim.execution.placement import memory
from raysim.execution.placement.census import placer
from raysim.execution.placement.slots import Node
from raysim.execution.preparation.prepare import Prepared, prepare_job
from raysim.execution.server.server import Server
from raysim.models import Blueprint
from raysim.rounds.job import Job
from raysim.rounds.results import ServerHandle
from raysim.rounds.task import RoundWork
from raysim.selection.cohort import draw_round

BY_NAME = {"model": {"name": "frozen_bases:adapted"}}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYSIM_CACHE", str(tmp_path))


def experiment_of(tmp_path: Path, **sections: Any) -> Experiment:
    return frozen_bases.experiment_of(tmp_path, "inprocess", **sections)


@pytest.fixture
def _nothing_before() -> Iterator[None]:
    """What there is before the test is not looked at."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def bases() -> set[int]:
    """Where in memory there is a frozen base, or a copy of one, that this test made."""
    gc.collect()
    tensors = [one for one in gc.get_objects() if isinstance(one, Tensor) and one.shape == (WIDTH, WIDTH)]
    return {one.untyped_storage().data_ptr() for one in tensors} - {0}  # which is nowhere: on meta, or while capturing


def work_in_one_process(job: Job, prepared: Prepared, tmp_path: Path) -> tuple[ClientWorker, Server]:
    """A round with all that an actor may do: train, evaluate, step, learn weights, export."""
    worker, server = ClientWorker(job, 0), Server(job)
    state, model = server.first()
    task = draw_round(job.experiment, prepared.federation, prepared.work, 1)
    handle = ServerHandle(state, model, server.shared(state))
    whole_round(worker, server, RoundWork(task), handle, None)
    server.export(str(tmp_path / "model.safetensors"), model)
    return worker, server


@pytest.mark.usefixtures("_nothing_before")
@pytest.mark.parametrize("engine", ["sequential", "rows"])
@pytest.mark.parametrize("handed_over", [True, False])
def test_all_modules_of_a_process_share_one_frozen_base(tmp_path: Path, engine: str, handed_over: bool) -> None:
    training = {"engine": engine} | ({"rows": 3} if engine == "rows" else {})
    model = {} if handed_over else BY_NAME
    before = bases()
    net = Adapted() if handed_over else None
    prepared = prepare_job(experiment_of(tmp_path, training=training, **model), model=net, data=arrays())
    in_process = work_in_one_process(prepared.job, prepared, tmp_path)
    assert len(bases() - before) == 1  # of a module that was handed over, the caller's own
    before = bases()
    job = pickle.loads(pickle.dumps(prepared.job))
    actor = work_in_one_process(job, prepared, tmp_path)
    assert len(bases() - before) == 1
    assert all(worker.trainer.engine.name == engine for worker, _ in (in_process, actor))


def test_a_planned_actor_has_one_frozen_base_and_its_buffers_as_often_as_there_are_modules(tmp_path: Path) -> None:
    net, without = Adapted(), nn.Sequential(nn.Linear(WIDTH, 3))
    net.register_buffer("mask", torch.zeros(1000, dtype=torch.bool))
    found, plain = (
        memory.actor_memory(prepare_job(experiment_of(tmp_path), model=one, data=arrays()).job).model
        for one in (net, without)
    )
    assert found - plain == BASE_BYTES + 4 * 1000  # of the buffer: engine, its first values, evaluator, as given


def test_a_base_that_actors_map_from_a_file_is_counted_once_a_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = experiment_of(tmp_path, execution={"executor": "ray"})
    job = prepare_job(experiment, model=Adapted(), data=arrays()).job
    copied = memory.actor_memory(job)
    monkeypatch.setattr(memory, "MAPPED_FROM", 1)
    skeleton, mapped = memory.Skeleton.of(job), memory.actor_memory(job)
    assert (copied.base, mapped.base) == (0, BASE_BYTES)
    assert copied.total - mapped.total == mapped.base
    room = 2 * mapped.total + mapped.base
    for free, actors in ((room, 2), (room - 1, 1)):
        nodes = [Node("laptop", 8, 0, free)]
        assert placer(skeleton, mapped, nodes).place(nodes).actors == actors
    with pytest.raises(PlacementError, match=r"1 actors of about \d+ MiB and a frozen base of \d+ MiB need more"):
        placer(skeleton, mapped, nodes).place([Node("laptop", 8, 0, mapped.total)])


def test_a_model_by_name_is_built_once_a_process_and_what_is_trained_can_be_forgotten(tmp_path: Path) -> None:
    job = prepare_job(experiment_of(tmp_path, **BY_NAME), data=arrays()).job
    info = job.federation.open().info
    job = pickle.loads(pickle.dumps(job))
    one, blueprint = job.build_module(info), job.blueprint.get(nn.Module, info)
    assert job.blueprint.get(nn.Module, info) is blueprint
    job.blueprint.release()
    other = job.build_module(info)
    assert job.blueprint.get(nn.Module, info) is not blueprint
    assert other.base.weight.data_ptr() == one.base.weight.data_ptr()
    assert torch.equal(other.head.weight, one.head.weight)
    assert other.head.weight.data_ptr() != one.head.weight.data_ptr()


def test_a_model_is_built_on_meta_once_for_all_that_a_plan_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, built = prepare_job(experiment_of(tmp_path), model=Adapted(), data=arrays()).job, []
    plain = memory.model_on_meta

    def counted(*given: Any, **named: Any) -> nn.Module:
        built.append(given)
        return plain(*given, **named)

    monkeypatch.setattr(memory, "model_on_meta", counted)
    skeleton = memory.Skeleton.of(job)
    memory.actor_memory(job, skeleton)
    assert skeleton.state_width == 0
    assert skeleton.transport_down == 4 * skeleton.columns
    assert skeleton.aggregation.rule.fields
    assert len(built) == 1


def test_the_callers_module_and_the_model_of_a_run_are_apart(tmp_path: Path) -> None:
    net = Adapted()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with Simulation(experiment_of(tmp_path), model=net, data=arrays()) as simulation:
        next(iter(simulation))
        simulation.model().base.weight.data.zero_()
        simulation.run()
        expected = sha256(simulation.model())
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])
    assert net.head.weight.requires_grad
    assert final_sha256(experiment_of(tmp_path), model=net, data=arrays()) == expected


def test_a_frozen_parameter_that_is_written_to_is_one_line(tmp_path: Path) -> None:
    line = r"model: parameter 'base\.weight' is frozen \(requires_grad=False\) and was written to"
    with pytest.raises(RunError, match=line):
        final_sha256(experiment_of(tmp_path), model=Teaching(), data=arrays())
    net = Adapted()
    with Simulation(experiment_of(tmp_path), model=net, data=arrays()) as simulation:
        rounds = iter(simulation)
        next(rounds)
        net.base.weight.data_ptr()  # looking is fine
        next(rounds)
    with Simulation(experiment_of(tmp_path), model=net, data=arrays()) as simulation:
        rounds = iter(simulation)
        next(rounds)
        with torch.no_grad():
            net.base.weight.mul_(2)
        with pytest.raises(RunError, match=line):
            next(rounds)


def test_a_module_that_cannot_be_copied_is_one_line(tmp_path: Path) -> None:
    net = Adapted()
    net.cached = net.head(torch.ones(1, WIDTH))  # a result with its history
    with pytest.raises(ModelError, match=r"model Adapted cannot be copied \(RuntimeError: Only Tensors created"):
        Blueprint.of(net).instantiate()


def test_a_module_of_a_blueprint_has_trainable_parameters_and_buffers_of_its_own_and_ties_as_before() -> None:
    net = Adapted()
    net.again = net.base
    net.register_buffer("mask", torch.zeros(3))
    found = Blueprint.of(net).instantiate()
    assert found.base.weight is found.again.weight
    assert found.base.weight is not net.base.weight
    assert found.base.weight.data_ptr() == net.base.weight.data_ptr()
    assert found.head.weight.data_ptr() != net.head.weight.data_ptr()
    assert found.mask.data_ptr() != net.mask.data_ptr()
    assert Blueprint.of(net).instantiate(share_frozen=False).base.weight.data_ptr() != net.base.weight.data_ptr()
    found.to(torch.float64)
    assert net.base.weight.dtype == torch.float32


def test_a_job_that_is_replaced_keeps_its_base_and_one_that_travels_does_not(tmp_path: Path) -> None:
    job = prepare_job(experiment_of(tmp_path, **BY_NAME), data=arrays()).job
    info = job.federation.open().info
    one, other = job.build_module(info), replace(job, engine=replace(job.engine, rows=1)).build_module(info)
    assert one.base.weight.data_ptr() == other.base.weight.data_ptr()
    far = pickle.loads(pickle.dumps(job)).build_module(info)
    assert far.base.weight.data_ptr() != one.base.weight.data_ptr()
    assert torch.equal(far.base.weight, one.base.weight)
