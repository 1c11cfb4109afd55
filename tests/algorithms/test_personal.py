"""Personal layers and models against plain loops, and their evaluation on each client's holdout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from federations import digits
from plain_federation import COLUMNS, Plain, Run, experiment_of
from plain_holdouts import BIASES, by_client, holdout_loss
from torch import nn

from raysim import Simulation
from raysim.algorithms import build_algorithm
from raysim.config import Experiment
from raysim.rounds.task import RoundWork
from raysim.training import ParameterLayout

ROUNDS = 4


@pytest.mark.parametrize("name", ["fedper", "fedrep"])
def test_personal_layers_stay_with_their_clients_and_the_rest_is_averaged(name: str) -> None:
    head_epochs = {"head_epochs": 3} if name == "fedrep" else {}
    run = Run(experiment_of({"name": name, "local_layers": ["*.bias"], **head_epochs}))
    plain = Plain(run)
    plain.epochs = 2 + sum(head_epochs.values())
    w, own = plain.w, {}
    for number in range(1, ROUNDS + 1):
        shared = 0.0
        for client, p in plain.cohort(number):
            mine = np.where(BIASES, own.get(client, plain.w), w)
            batches = list(plain.batches(number, client))
            head = len(batches) // plain.epochs * 3 if name == "fedrep" else 0
            for step, index in enumerate(batches):
                moves = ((step < head) == BIASES) if name == "fedrep" else 1.0
                mine = mine - plain.lr * moves * plain.grad(mine, client, index)
            own[client], shared = mine, shared + p * mine
        w = np.where(BIASES, plain.w, shared)
    losses = [by_client(run) for _ in range(ROUNDS)][-1]
    np.testing.assert_allclose(run.model, w, rtol=0, atol=3e-6)
    for client, loss in losses.items():
        mine = np.where(BIASES, own.get(client, plain.w), w)
        assert loss == pytest.approx(holdout_loss(run, plain, mine, client), rel=1e-4)


def test_local_training_is_each_clients_own_and_moves_nobody_elses_model() -> None:
    run = Run(experiment_of("local"))
    plain, own = Plain(run), {}
    for number in range(1, ROUNDS + 1):
        for client, _ in plain.cohort(number):
            own[client] = plain.local(own.get(client, plain.w), number, client)
    losses = [by_client(run) for _ in range(ROUNDS)][-1]
    np.testing.assert_array_equal(run.model, plain.w.astype(np.float32))
    for client, loss in losses.items():
        assert loss == pytest.approx(holdout_loss(run, plain, own.get(client, plain.w), client), rel=1e-4)


def test_ditto_trains_a_model_of_each_clients_own_beside_fedavg() -> None:
    strength = 0.4
    run = Run(experiment_of({"name": "ditto", "strength": strength}))
    plain = Plain(run)
    w, own = plain.w, {}
    for number in range(1, ROUNDS + 1):
        arrived = 0.0
        for client, p in plain.cohort(number):
            v = own.get(client, w)
            for index in plain.batches(number, client):
                v = v - plain.lr * (plain.grad(v, client, index) + strength * (v - w))
            own[client], arrived = v, arrived + p * plain.local(w, number, client)
        w = arrived
    losses = [by_client(run) for _ in range(ROUNDS)][-1]
    np.testing.assert_allclose(run.model, w, rtol=0, atol=3e-6)
    for client, loss in losses.items():
        assert loss == pytest.approx(holdout_loss(run, plain, own.get(client, w), client), rel=1e-4)


def evaluated_by_client(run: Run, plain: Plain, used: Any) -> None:
    """The last of `ROUNDS` rounds leaves every client with the model `used(client)`."""
    losses = [by_client(run) for _ in range(ROUNDS)][-1]
    for client, loss in losses.items():
        assert loss == pytest.approx(holdout_loss(run, plain, used(client), client), rel=1e-4)


def test_pfedme_follows_algorithm_1_of_the_paper() -> None:
    lam, eta, beta, inner = 4.0, 0.1, 0.8, 3
    knobs = {"strength": lam, "local_lr": eta, "server_lr": beta, "inner_steps": inner}
    run = Run(experiment_of({"name": "pfedme", **knobs}))
    plain, own = Plain(run), {}
    w = plain.w
    for number in range(1, ROUNDS + 1):
        mean = 0.0
        for client, p in plain.cohort(number):
            local = theta = w
            for index in plain.batches(number, client):
                for _ in range(inner):
                    theta = theta - plain.lr * (plain.grad(theta, client, index) + lam * (theta - local))
                local = local - eta * lam * (local - theta)
            own[client], mean = theta, mean + p * local
        w = (1 - beta) * w + beta * mean
    evaluated_by_client(run, plain, lambda client: own.get(client, w))
    np.testing.assert_allclose(run.model, w, rtol=0, atol=3e-6)


@pytest.mark.parametrize("adaptive", [False, True])
def test_apfl_follows_algorithm_1_of_the_paper(adaptive: bool) -> None:
    run = Run(experiment_of({"name": "apfl", "alpha": 0.4, "adaptive": adaptive}))
    plain, own, alphas = Plain(run), {}, {}
    w = plain.w
    for number in range(1, ROUNDS + 1):
        arrived = 0.0
        for client, p in plain.cohort(number):
            v, alpha, mine = own.get(client, w), alphas.get(client, 0.4), w
            for step, index in enumerate(plain.batches(number, client)):
                slope = plain.grad(alpha * v + (1 - alpha) * mine, client, index)
                if adaptive and step == 0:
                    alphas[client] = float(np.clip(alpha - plain.lr * (v - mine) @ slope, 0, 1))
                v = v - plain.lr * alpha * slope
                mine = mine - plain.lr * plain.grad(mine, client, index)
                alpha = alphas.get(client, alpha)
            own[client], arrived = v, arrived + p * mine
        w = arrived

    def mixed(client: int) -> Any:
        alpha = alphas.get(client, 0.4)
        return alpha * own.get(client, w) + (1 - alpha) * w

    evaluated_by_client(run, plain, mixed)
    np.testing.assert_allclose(run.model, w, rtol=0, atol=3e-6)
    assert not adaptive or np.ptp(list(alphas.values())) > 0.01
    np.testing.assert_array_equal(run.model, Run(experiment_of("fedavg")).rounds(ROUNDS))


def test_perfedavg_follows_algorithm_1_of_the_paper_with_first_order_gradients() -> None:
    alpha = 0.1
    run = Run(experiment_of({"name": "perfedavg", "adapt_lr": alpha}))
    plain = Plain(run)
    plain.epochs *= 2
    w = plain.w
    for number in range(1, ROUNDS + 1):
        arrived = 0.0
        for client, p in plain.cohort(number):
            mine, batches = w, plain.batches(number, client)
            for one, other in zip(batches, batches, strict=True):
                ahead = mine - alpha * plain.grad(mine, client, one)
                mine = mine - plain.lr * plain.grad(ahead, client, other)
            arrived = arrived + p * mine
        w = arrived
    np.testing.assert_allclose(run.rounds(ROUNDS), w, rtol=0, atol=3e-6)


def test_fedbn_keeps_normalisation_layers_and_their_statistics() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 4), nn.GroupNorm(2, 4), nn.Linear(4, 2))
    layout = ParameterLayout(module)
    algorithm = build_algorithm(Experiment.parse({"algorithm": "fedbn"}).algorithm, layout)
    local = set(algorithm.personal_columns.tolist())
    kept = {s.name for s in layout.segments if s.start in local}
    assert kept == {"1.weight", "1.bias", "1.running_mean", "1.running_var", "3.weight", "3.bias"}
    assert len(local) == 6 * 4


@pytest.mark.parametrize(
    ("algorithm", "share"),
    [("fedavg", 1.0), ({"name": "fedper", "local_layers": ["*.bias"]}, 29 / 32), ("local", 17 / 32)],
)
def test_personal_layers_are_no_part_of_what_goes_up(algorithm: Any, share: float) -> None:
    run = Run(experiment_of(algorithm))
    (done,) = run.executor.rounds(iter([RoundWork(run.task(1))]), run.handle)
    clients = 4
    assert done.facts.row.transport_up == 8 * COLUMNS * share + 8 + 4 * clients


def test_layers_that_fill_the_model_leave_nothing_to_send() -> None:
    layout = ParameterLayout(nn.Linear(32, 1, bias=False))
    algorithm = build_algorithm(Experiment.parse({"algorithm": "local"}).algorithm, layout)
    (field,) = algorithm.fields()
    assert field.size == 0
    model = np.ones(layout.size, np.float32)
    np.testing.assert_array_equal(algorithm.apply(model, algorithm.init(model), {"update": np.empty(0)})[0], model)


def test_fedper_keeps_the_last_layer_unless_told_otherwise() -> None:
    layout = ParameterLayout(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)))
    for keys, expected in (({}, {"1.weight", "1.bias"}), ({"local_layers": ["0.*"]}, {"0.weight", "0.bias"})):
        algorithm = build_algorithm(Experiment.parse({"algorithm": {"name": "fedper", **keys}}).algorithm, layout)
        local = set(algorithm.personal_columns.tolist())
        assert {s.name for s in layout.segments if s.start in local} == expected


@pytest.mark.parametrize("name", ["fedper", "fedrep", "ditto"])
def test_personal_models_serve_clients_of_few_labels_better(tmp_path: Path, name: str) -> None:
    def accuracy(algorithm: str) -> float:
        setting = ["data.partition={name: shards, clients: 10}", "cohort=10", "rounds=6", "tracking.checkpoint_every=0"]
        with Simulation(digits(tmp_path, *setting, f"algorithm={algorithm}", "evaluation.every=6")) as simulation:
            *_, last = simulation
        return last.metrics["clients/accuracy/mean"]

    assert accuracy(name) > accuracy("fedavg") + 0.03


@pytest.mark.ray
def test_personal_models_are_evaluated_on_actors_as_in_one_process(tmp_path: Path, ray_session: Any) -> None:
    def metrics(*overrides: str) -> Any:
        tuned = "evaluation.fine_tune={steps: 3}"
        with Simulation(digits(tmp_path, "algorithm=fedper", "rounds=3", tuned, *overrides)) as simulation:
            return [dict(one.metrics) for one in simulation]

    assert metrics("execution.executor=ray", "execution.actors=2") == metrics()
