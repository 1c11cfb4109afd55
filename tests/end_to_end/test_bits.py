"""The promise: the same bits on any executor, with any number of actors, and after a resume."""

from __future__ import annotations

from pathlib import Path

import pytest
from federations import broken_off, digits, final_sha256, mnist_shaped, sha256

from raysim import Experiment, Simulation

ONE, TWO, MANY = (
    ("execution.actors=1",),
    ("execution.actors=2",),
    ("execution.clients_per_actor=1",),
)
ENGINES = {"sequential": "training.engine=sequential", "rows": "training={engine: rows, rows: 3}"}
ENGINE = pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)


@pytest.mark.ray
@ENGINE
def test_digits_end_in_the_same_bits_on_every_executor(tmp_path: Path, ray_session: object, engine: str) -> None:
    """Rows on one actor and on two are below."""
    expected = final_sha256(digits(tmp_path, engine))
    for spread in (MANY,) if engine == ENGINES["rows"] else (ONE, TWO, MANY):
        found = final_sha256(digits(tmp_path, engine, "execution.executor=ray", *spread))
        assert found == expected, f"{spread} gives other bits than in process"


@pytest.mark.parametrize(
    ("model", "optimizer"),
    [
        ("softmax", "{name: sgd, lr: 0.1, momentum: 0.9}"),
        ("{name: mlp, hidden: [13]}", "{name: adamw, lr: 0.01}"),
    ],
    ids=["softmax with momentum", "a network with adamw"],
)
def test_any_number_of_rows_ends_in_the_same_bits(tmp_path: Path, model: str, optimizer: str) -> None:
    data = mnist_shaped([21, 7, 31, 10, 31, 1, 12])  # batches of 10: some of the last ones have a single sample
    experiment = digits(
        tmp_path, f"model={model}", f"client.optimizer={optimizer}", "rounds=3", "cohort=5", "client.epochs=2",
        "data.partition=natural", "data.holdout=0",
    )  # fmt: skip
    found = {
        rows: final_sha256(experiment.updated([f"training={{engine: rows, rows: {rows}}}"]), data=data)
        for rows in (1, 3, 64)
    }
    assert len(set(found.values())) == 1, found


def test_shards_that_do_not_stay_on_the_device_give_the_same_bits(tmp_path: Path) -> None:
    for engine in ENGINES.values():
        expected = final_sha256(digits(tmp_path, engine))
        assert final_sha256(digits(tmp_path, engine, "execution.shard_memory=0")) == expected


@pytest.mark.ray
@pytest.mark.parametrize(("rows", "actors"), [(1, TWO), (64, ONE), (64, TWO)])
def test_rows_on_actors_end_in_the_bits_of_any_other_number_in_process(
    tmp_path: Path, ray_session: object, rows: int, actors: tuple[str, ...]
) -> None:
    expected = final_sha256(digits(tmp_path, "training={engine: rows, rows: 3}", "cohort=1.0"))
    spread = [f"training={{engine: rows, rows: {rows}}}", "cohort=1.0", "execution.executor=ray", *actors]
    assert final_sha256(digits(tmp_path, *spread)) == expected


@pytest.mark.ray
@pytest.mark.parametrize("model", ["{name: mlp, hidden: [200, 200]}", "cnn"])
def test_mnist_models_end_in_the_same_bits_with_uneven_shards_and_a_last_batch_of_one(
    tmp_path: Path, ray_session: object, model: str
) -> None:
    data = mnist_shaped([21, 7, 31, 10])  # batches of 10: the last ones have 1, 7, 1 and 10 samples
    experiment = digits(
        tmp_path, f"model={model}", "rounds=2", "data.partition=natural", "data.holdout=0", "client.epochs=2"
    )
    expected = final_sha256(experiment, data=data)
    for actors in (1, 3):
        spread = experiment.updated(["execution.executor=ray", f"execution.actors={actors}"])
        assert final_sha256(spread, data=data) == expected


@pytest.mark.parametrize(
    ("engine", "stop_after"),
    [(ENGINES["sequential"], 2), (ENGINES["sequential"], 3), (ENGINES["rows"], 3)],
    ids=["sequential at a checkpoint", "sequential after one", "rows after one"],
)
def test_a_resume_from_the_middle_ends_in_the_same_bits(tmp_path: Path, engine: str, stop_after: int) -> None:
    experiment = digits(tmp_path, engine, "algorithm.server_momentum=0.9")
    assert broken_off(experiment, after=stop_after)[1] == final_sha256(experiment)


@pytest.mark.ray
@ENGINE
def test_a_run_started_in_process_resumes_on_ray_to_the_same_bits(
    tmp_path: Path, ray_session: object, engine: str
) -> None:
    adaptive = "selection=oort" if "rows" in engine else "selection=power_of_choice"
    expected = final_sha256(digits(tmp_path, engine, adaptive, "cohort=3"))
    with Simulation(digits(tmp_path, engine, adaptive, "cohort=3")) as simulation:
        next(iter(simulation))
    with Simulation.resume(simulation.directory, overrides=["execution.executor=ray", "execution.actors=2"]) as resumed:
        resumed.run()
        assert sha256(resumed.model()) == expected


def test_the_resolved_configuration_runs_again_to_the_same_bits(tmp_path: Path) -> None:
    with Simulation(digits(tmp_path)) as simulation:
        simulation.run()
        expected = sha256(simulation.model())
    assert final_sha256(Experiment.from_yaml(simulation.directory / "config.yaml")) == expected


def test_another_seed_gives_another_model(tmp_path: Path) -> None:
    assert final_sha256(digits(tmp_path)) != final_sha256(digits(tmp_path, "seed=1"))


@ENGINE
def test_the_number_of_torch_threads_of_the_caller_does_not_matter_and_is_restored(tmp_path: Path, engine: str) -> None:
    import torch

    expected = final_sha256(digits(tmp_path, engine))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert final_sha256(digits(tmp_path, engine)) == expected
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_the_global_generators_are_neither_read_nor_moved(tmp_path: Path) -> None:
    import torch

    torch.manual_seed(1)
    expected = final_sha256(digits(tmp_path, "model.dropout=0.5", "rounds=2"))
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert final_sha256(digits(tmp_path, "model.dropout=0.5", "rounds=2")) == expected
    assert torch.equal(torch.get_rng_state(), state)
