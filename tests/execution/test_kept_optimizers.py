"""Momentum and moments that clients keep from round to round: those of a loop of torch's own, on any actors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from federations import broken_off, digits, sha256
from plain_federation import Plain, Run, experiment_of
from torch import nn

from raysim import Simulation
from raysim.execution.placement.memory import Skeleton, actor_memory
from raysim.execution.preparation import engine_choice

OPTIMIZERS: dict[str, tuple[str, Callable[[Any], torch.optim.Optimizer]]] = {
    "momentum": (
        "{name: sgd, lr: 0.2, momentum: 0.9, state: keep}",
        lambda p: torch.optim.SGD(p, lr=0.2, momentum=0.9),
    ),
    "adam": ("{name: adam, lr: 0.02, state: keep}", lambda p: torch.optim.Adam(p, lr=0.02)),
    "adamw": (
        "{name: adamw, lr: 0.02, weight_decay: 0.1, state: keep}",
        lambda p: torch.optim.AdamW(p, lr=0.02, weight_decay=0.1),
    ),
}


def by_torch(plain: Plain, made: Callable[[Any], torch.optim.Optimizer], rounds: int) -> Any:
    """Federated averaging whose clients each have one optimiser of torch's for the whole run."""
    weights = [nn.Parameter(torch.zeros(len(plain.w), dtype=torch.float64)) for _ in range(plain.population)]
    optimizers, w = [made([one]) for one in weights], plain.w
    for number in range(1, rounds + 1):
        total = np.zeros_like(w)
        for client, p in plain.cohort(number):
            mine = weights[client]
            mine.data.copy_(torch.from_numpy(w))
            for index in plain.batches(number, client):
                mine.grad = torch.from_numpy(plain.grad(mine.detach().numpy(), client, index))
                optimizers[client].step()
            total += p * (mine.detach().numpy() - w)
        w = w + total
    return w


@pytest.mark.parametrize("rows", [None, 3])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_clients_go_on_with_what_they_kept(optimizer: str, rows: int | None) -> None:
    config, made = OPTIMIZERS[optimizer]
    run = Run(experiment_of("fedavg", f"client.optimizer={config}", "cohort=3"), rows=rows)
    plain = Plain(run)
    np.testing.assert_allclose(run.rounds(5), by_torch(plain, made, 5), atol=2e-5)


def test_what_is_kept_makes_a_difference() -> None:
    kept, reset = (
        Run(experiment_of("fedavg", f"client.optimizer={{name: adam, lr: 0.02, state: {state}}}")).rounds(4)
        for state in ("keep", "reset")
    )
    assert np.abs(kept - reset).max() > 1e-3


def trained(experiment: Any) -> str:
    with Simulation(experiment) as simulation:
        simulation.run()
        return sha256(simulation.model())


ADAMW = "client.optimizer={name: adamw, lr: 0.005, weight_decay: 0.05, state: keep}"


def test_a_resumed_run_has_the_bits_of_one_without_a_break(tmp_path: Path) -> None:
    assert broken_off(digits(tmp_path, ADAMW), after=2)[1] == trained(digits(tmp_path, ADAMW))


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize("actors", [1, 3])
def test_any_actors_give_the_bits_of_one_process(actors: int, tmp_path: Path) -> None:
    settings = [ADAMW, "rounds=3", "training.engine=rows", "training.rows=2", "training.compile=false"]
    on_ray = ["execution.executor=ray", f"execution.actors={actors}", "execution.num_cpus=0.1"]
    assert trained(digits(tmp_path, *settings, *on_ray)) == trained(digits(tmp_path, *settings))


def test_rows_that_each_went_other_ways_before_do_not_touch_each_other(tmp_path: Path) -> None:
    settings = [ADAMW, "training.engine=rows", "training.compile=false"]
    found = {trained(digits(tmp_path, *settings, f"training.rows={rows}")) for rows in (2, 3, 4)}
    assert len(found) == 1


@pytest.mark.skipif(not engine_choice.has_compiler(), reason="needs a C++ compiler")
def test_compiled_steps_go_on_too(tmp_path: Path) -> None:
    def final(*settings: str) -> Any:
        experiment = digits(tmp_path, ADAMW, "training.engine=rows", "rounds=3", *settings)
        with Simulation(experiment) as simulation:
            simulation.run()
            return nn.utils.parameters_to_vector(simulation.model().parameters()).detach()

    rows = final("training.rows=2", "training.compile=false")
    two, three = (final(f"training.rows={k}", "training.compile=true") for k in (2, 3))
    assert torch.equal(two, three)
    torch.testing.assert_close(two, rows, rtol=0, atol=2e-5)


def test_the_plan_counts_what_is_kept() -> None:
    reset, kept = (
        Run(experiment_of("fedavg", f"client.optimizer={{name: adam, state: {state}}}")).executor.worker.job
        for state in ("reset", "keep")
    )
    trainable = Skeleton.of(kept).layout.trainable
    assert (Skeleton.of(reset).state_width, Skeleton.of(kept).state_width) == (0, 2 * trainable + 32)
    assert actor_memory(kept).state > actor_memory(reset).state == 0
