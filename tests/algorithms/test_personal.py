"""Personal layers and models against plain loops, and their evaluation on each client's holdout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from federations import digits
from plain_federation import COLUMNS, Plain, Run, experiment_of
from plain_orders import orders
from torch import nn

from raysim import Simulation
from raysim.algorithms import build_algorithm
from raysim.config import Experiment
from raysim.config.fine_tuning import FineTune
from raysim.errors import ConfigError
from raysim.execution import Evaluated, HoldoutRange, RoundWork, prepare_job
from raysim.training import LocalWork, ParameterLayout

ROUNDS = 4
LOCAL = np.arange(COLUMNS) >= 16
"""The columns of the biases."""


def another_round(run: Run) -> Evaluated:
    """Train a round more, and evaluate all clients on their holdouts."""
    clients = np.flatnonzero(run.federation.sizes("holdout") > 0)
    run.number += 1
    (done,) = run.executor.rounds(iter([RoundWork(run.task(run.number), (HoldoutRange(clients),))]), run.handle)
    run.handle = done.server
    return done.facts.evaluated[0]


def losses_of(run: Run, sums: Any) -> list[float]:
    return [run.executor.worker.metrics[0].value(row[:2]) for row in np.asarray(sums)]


def by_client(run: Run) -> Any:
    """The mean losses of all clients on their holdouts after another round."""
    found = another_round(run)
    assert found.clients is not None
    return dict(zip(found.clients.tolist(), losses_of(run, found.sums), strict=True))


def tuned_by_client(run: Run) -> dict[int, tuple[float, float]]:
    """The same after fine-tuning and before it."""
    found = another_round(run)
    assert found.clients is not None
    pairs = zip(losses_of(run, found.sums), losses_of(run, found.untuned), strict=True)
    return dict(zip(found.clients.tolist(), pairs, strict=True))


def model_of(run: Run, client: int) -> Any:
    """The model that a client would use now."""
    worker, states = run.executor.worker, run.executor.states(run.handle, run.number)
    broadcast = torch.from_numpy(run.model)
    if states is None:
        return run.model.astype(np.float64)
    rows = worker.states.taken_up(states, np.array([client]), broadcast)
    return worker.algorithm.client_model(broadcast, worker.states.views(rows))[0].numpy().astype(np.float64)


def holdout_loss(run: Run, plain: Plain, w: Any, client: int) -> float:
    held = run.federation.shard(client, "holdout")
    logits = held.x.astype(np.float64) @ w[:12].reshape(3, 4).T + w[16:19]
    return float((np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(held)), held.y]).mean())


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
            mine = np.where(LOCAL, own.get(client, plain.w), w)
            batches = list(plain.batches(number, client))
            head = len(batches) // plain.epochs * 3 if name == "fedrep" else 0
            for step, index in enumerate(batches):
                moves = ((step < head) == LOCAL) if name == "fedrep" else 1.0
                mine = mine - plain.lr * moves * plain.grad(mine, client, index)
            own[client], shared = mine, shared + p * mine
        w = np.where(LOCAL, plain.w, shared)
    losses = [by_client(run) for _ in range(ROUNDS)][-1]
    np.testing.assert_allclose(run.model, w, rtol=0, atol=3e-6)
    for client, loss in losses.items():
        mine = np.where(LOCAL, own.get(client, plain.w), w)
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


class TestFineTuning:
    """A copy of the model is trained on the client's training part before its holdout is looked at."""

    STEPS = 7
    LR = 0.3

    def tuned(self, plain: Plain, model: Any, client: int, columns: Any = 1.0) -> Any:
        """Plain SGD from this model, with the batches of round 0."""
        size = int(plain.sizes[client])
        for index in orders(3, 0, client, size, LocalWork(5, steps=self.STEPS)) if size else ():
            model = model - self.LR * columns * plain.grad(model, client, index.numpy())
        return model

    @pytest.mark.parametrize("name", ["fedavg", "ditto", "fedper"])
    def test_it_begins_at_the_model_that_the_client_would_use(self, name: str) -> None:
        knobs = f"evaluation.fine_tune={{steps: {self.STEPS}, lr: {self.LR}}}"
        run, untouched = (Run(experiment_of(name, *extra)) for extra in ([knobs], []))
        plain = Plain(run)
        before = by_client(untouched)
        found = tuned_by_client(run)
        np.testing.assert_array_equal(run.model, untouched.model)
        assert {client: untuned for client, (_, untuned) in found.items()} == before
        for client, (loss, _) in found.items():
            expected = self.tuned(plain, model_of(run, client), client)
            assert loss == pytest.approx(holdout_loss(run, plain, expected, client), rel=1e-4)

    def test_only_the_named_layers_change(self) -> None:
        run = Run(experiment_of("fedavg", "evaluation.fine_tune={steps: 7, lr: 0.3, layers: ['*.bias']}"))
        plain = Plain(run)
        for client, (loss, _) in tuned_by_client(run).items():
            expected = self.tuned(plain, run.model.astype(np.float64), client, LOCAL)
            assert loss == pytest.approx(holdout_loss(run, plain, expected, client), rel=1e-4)

    def test_rows_come_to_what_one_client_at_a_time_comes_to_and_their_number_changes_no_bit(self) -> None:
        setting = experiment_of("fedper", "evaluation.fine_tune={epochs: 2, lr: 0.3, layers: ['*.weight']}")
        alone, *found = (tuned_by_client(Run(setting, rows=rows)) for rows in (None, 2, 1, 5))
        assert found[0] == found[1] == found[2]
        for client, values in alone.items():
            assert values == pytest.approx(found[0][client], rel=1e-5)

    @pytest.mark.parametrize(
        ("overrides", "line"),
        [
            (["data.holdout=0"], "evaluation.fine_tune: clients need a holdout to be judged by; set data.holdout"),
            (["client.optimizer=adam"], "evaluation.fine_tune.lr: set one: fine-tuning takes steps of plain SGD"),
            (["evaluation.fine_tune.layers=[head.*]"], "evaluation.fine_tune.layers: 'head.*' matches nothing"),
            (["evaluation.fine_tune.layers=[]"], "'evaluation.fine_tune.layers'"),
            (["evaluation.fine_tune.steps=0"], "'evaluation.fine_tune.steps'"),
        ],
    )
    def test_what_cannot_be_done_is_refused_in_one_line(self, overrides: list[str], line: str, tmp_path: Path) -> None:
        with pytest.raises(ConfigError) as caught:
            prepare_job(digits(tmp_path, "evaluation.fine_tune={steps: 1}", *overrides))
        assert line.strip("'") in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_metrics_before_and_after_are_recorded(self, tmp_path: Path) -> None:
        setting = ["data.partition={name: shards, clients: 10}", "rounds=3", "evaluation.fine_tune={epochs: 3}"]
        with Simulation(digits(tmp_path, *setting)) as simulation:
            *_, last = simulation
        assert last.metrics["clients/accuracy/mean"] > last.metrics["clients/accuracy/untuned_mean"] + 0.1
        assert last.metrics["clients/loss/worst10"] < last.metrics["clients/loss/untuned_worst10"]

    def test_perfedavg_takes_one_step_unless_told_otherwise(self, tmp_path: Path) -> None:
        perfedavg = "algorithm={name: perfedavg, adapt_lr: 0.3}"
        chosen = prepare_job(digits(tmp_path, perfedavg)).experiment.evaluation.fine_tune
        assert chosen == FineTune(steps=1, lr=0.3)
        told = digits(tmp_path, perfedavg, "evaluation.fine_tune={epochs: 2}")
        assert prepare_job(told).experiment.evaluation.fine_tune == FineTune(epochs=2)
        again = prepare_job(digits(tmp_path, "algorithm=fedavg").updated(["evaluation.fine_tune.steps=4"]))
        assert again.experiment.evaluation.fine_tune == FineTune(steps=4)
        assert prepare_job(digits(tmp_path, perfedavg, "data.holdout=0")).experiment.evaluation.fine_tune is None


def test_fedbn_keeps_normalisation_layers_and_their_statistics() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 4), nn.GroupNorm(2, 4), nn.Linear(4, 2))
    layout = ParameterLayout(module)
    algorithm = build_algorithm(Experiment.parse({"algorithm": "fedbn"}).algorithm, layout)
    local = set(algorithm.local.tolist())  # type: ignore[attr-defined]
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
    assert done.facts.row.bytes_up == 8 * COLUMNS * share + 8 + 4 * clients


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
        local = set(algorithm.local.tolist())  # type: ignore[attr-defined]
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
