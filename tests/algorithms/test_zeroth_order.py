"""FedKSeed against a plain loop, and models rebuilt from scalars to the bit."""

from __future__ import annotations

import copy
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from federations import digits, sha256
from plain_federation import Plain, Run, experiment_of
from safetensors.torch import load_file

from raysim import Experiment, Simulation, keyed
from raysim.algorithms.zeroth_order import direction_of, rebuilt, walked
from raysim.errors import ConfigError, RunError, StorageError
from raysim.rebuilding import rebuild, write_rebuilt
from raysim.tracking import RunDirectory, read_rounds

EPSILON = 0.05


def experiment(*overrides: str) -> Experiment:
    algorithm = {"name": "fedkseed", "seeds": 7, "epsilon": EPSILON, "seed": 5}
    return experiment_of(algorithm, "client.optimizer.lr=0.05", "client.epochs=3", *overrides)


def mean_loss(run: Run, w: Any, client: int, index: Any) -> float:
    samples = run.federation.shard(client)
    logits = samples.x[index].astype(np.float64) @ w[:12].reshape(3, 4).T + w[16:19]
    shares = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return float(-shares[np.arange(len(index)), samples.y[index]].mean())


@pytest.mark.parametrize("rows", [None, 3])
def test_clients_go_along_directions_by_two_losses_a_step(rows: int | None) -> None:
    run = Run(experiment(), rows=rows)
    plain, layout = Plain(run), run.executor.worker.algorithm.layout
    directions = [direction_of(5, one, layout).astype(np.float64) for one in range(7)]
    w, total = plain.w, np.zeros(7)
    for number in range(1, 5):
        mean = np.zeros(7)
        for client, p in plain.cohort(number):
            mine = w.copy()
            for step, index in enumerate(plain.batches(number, client)):
                key = np.array([number]), np.array([client]), step
                one = int(keyed.integers(3, keyed.Purpose.CHOSEN_DIRECTION, *key)[0] % 7)
                ahead, behind = (mean_loss(run, mine + e * directions[one], client, index) for e in (EPSILON, -EPSILON))
                moved = -0.05 * (ahead - behind) / (2 * EPSILON)
                mine += moved * directions[one]
                mean[one] += p * moved
        total += mean
        w = plain.w + sum(a * z for a, z in zip(total, directions, strict=True))
    found = run.rounds(4)
    np.testing.assert_allclose(found, w, rtol=0, atol=2e-6)
    assert np.abs(found - plain.w).max() > 0.01


def test_directions_are_gaussian_differ_and_leave_the_padding_alone() -> None:
    layout = Run(experiment()).executor.worker.algorithm.layout
    assert not direction_of(0, 3, layout)[12:16].any()
    assert not np.array_equal(direction_of(0, 3, layout), direction_of(0, 4, layout))
    assert not np.array_equal(direction_of(0, 3, layout), direction_of(1, 3, layout))
    values = np.concatenate([direction_of(0, one, layout)[:12] for one in range(400)])
    assert abs(values.mean()) < 0.05
    assert abs(values.std() - 1) < 0.05


SETTINGS = ["algorithm={name: fedkseed, seeds: 64}", "client.optimizer.lr=0.02", "tracking.checkpoint_every=1"]


def test_the_model_of_any_round_is_rebuilt_from_scalars_to_the_bit(tmp_path: Path) -> None:
    with Simulation(digits(tmp_path, *SETTINGS, "tracking.keep=9")) as simulation:
        simulation.run()
        last, run = simulation.model(), simulation.directory
    assert sha256(rebuild(run)) == sha256(last)
    for number, name in ((None, "last"), (2, "second")):
        file = write_rebuilt(run, tmp_path / f"{name}.safetensors", round=number)
        loaded = copy.deepcopy(last)
        loaded.load_state_dict(load_file(file))
        assert sha256(loaded) == sha256(rebuild(run, round=number))
    assert (tmp_path / "last.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()
    with pytest.raises(StorageError, match=r"last\.safetensors: exists already and is not a rebuilt model"):
        write_rebuilt(run, file.with_name("last.safetensors"))
    with Simulation(digits(tmp_path, *SETTINGS)) as shorter:
        for _ in islice(shorter, 2):
            pass
        assert sha256(rebuild(run, round=2)) == sha256(shorter.model()) != sha256(last)
    with pytest.raises(RunError, match=r"there is no checkpoint of round 7; there are those of \[1, 2, 3, 4\]"):
        rebuild(run, round=7)


def test_models_are_of_scalars_alone_only_with_this_algorithm(tmp_path: Path) -> None:
    with Simulation(digits(tmp_path, "rounds=1")) as simulation:
        simulation.run()
    with pytest.raises(RunError, match="was trained by fedavg, and only models of fedkseed are made of scalars"):
        rebuild(simulation.directory)


def test_what_travels_is_under_18_kilobytes_each_way(tmp_path: Path) -> None:
    with Simulation(digits(tmp_path, "algorithm=fedkseed", "client.optimizer.lr=0.02", "rounds=2")) as simulation:
        simulation.run()
    run = RunDirectory.open(simulation.directory)
    assert "numpy" in run.read_environment()["bits"]
    rows = read_rounds(run).to_pylist()
    assert {(row["wire_up"] / row["cohort"], row["wire_down"] / row["cohort"]) for row in rows} == {(16384, 16384)}


def trained(experiment: Experiment) -> str:
    with Simulation(experiment) as simulation:
        simulation.run()
        return sha256(simulation.model())


def test_rows_and_a_resume_give_the_same_bits(tmp_path: Path) -> None:
    in_rows = [*SETTINGS, "training.engine=rows", "training.compile=false"]
    assert len({trained(digits(tmp_path, *in_rows, f"training.rows={rows}")) for rows in (2, 3)}) == 1
    expected = trained(digits(tmp_path, *SETTINGS))
    with Simulation(digits(tmp_path, *SETTINGS)) as simulation:
        for _ in islice(simulation, 2):
            pass
    with Simulation.resume(simulation.directory) as resumed:
        resumed.run()
        assert sha256(resumed.model()) == expected


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
def test_actors_give_the_bits_of_one_process(tmp_path: Path) -> None:
    on_ray = ["execution.executor=ray", "execution.actors=2", "execution.num_cpus=0.1"]
    assert trained(digits(tmp_path, *SETTINGS, *on_ray)) == trained(digits(tmp_path, *SETTINGS))


def test_it_learns(tmp_path: Path) -> None:
    settings = ["algorithm={name: fedkseed, seeds: 256}", "model=softmax", "client.optimizer.lr=0.05", "rounds=30"]
    with Simulation(digits(tmp_path, *settings, "client.steps=20", "evaluation.every=30")) as simulation:
        assert simulation.run().metrics["test/accuracy"] > 0.5


def test_sums_in_any_order_are_the_walk() -> None:
    layout = Run(experiment()).executor.worker.algorithm.layout
    start = np.zeros(layout.size)
    random = np.random.default_rng(0)
    parts = [np.rint(random.normal(size=7) * 2.0**26) / 2.0**30 for _ in range(20)]
    whole = sum(parts)
    step_by_step = start
    for part in parts:
        step_by_step = walked(step_by_step, part, 5, layout, reach=whole)
    np.testing.assert_array_equal(step_by_step, walked(start, whole, 5, layout, reach=whole))
    np.testing.assert_array_equal(rebuilt(start.astype(np.float32), whole, 5, layout), step_by_step.astype(np.float32))
    with pytest.raises(RunError, match="walked so far that its model can no longer be rebuilt"):
        walked(start, np.full(7, 100.0), 5, layout, reach=np.full(7, 100.0))


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["client.optimizer.momentum=0.9"], "algorithm: fedkseed takes steps of its own along random directions"),
        (["client.clip_norm=1"], "client.clip_norm: fedkseed takes no gradients"),
        (["training.checkpointing=true"], "training.checkpointing: fedkseed has no backward pass"),
    ],
)
def test_what_only_gradients_have_is_refused(overrides: list[str], line: str) -> None:
    algorithm = Run(experiment()).executor.worker.algorithm
    with pytest.raises(ConfigError, match=line):
        algorithm.check(experiment(*overrides))
