"""Apps in the layouts of Flower's examples, unchanged, against plain loops that compute the same."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import load_file

pytest.importorskip("flwr")
from app_runs import APPS, run_app, settings

from raysim.adapters.flower import FlowerSimulation


def strategy_by_hand(nodes: int, rounds: int, lr: float = 0.5, momentum: float = 0.5) -> tuple[np.ndarray, list[float]]:
    """Weights and mean training losses of the app with a strategy of its own."""
    data = []
    for node in range(nodes):
        generator = np.random.default_rng(node)
        x = generator.normal(size=(20 + 5 * node, 4))
        data.append((x, x @ np.arange(1.0, 5.0) + 0.1 * generator.normal(size=len(x)) + node))
    sizes = np.array([len(x) for x, _ in data])
    weights = np.full(4, 0.01 * sizes.mean())
    velocity, losses = np.zeros(4), []
    for number in range(1, rounds + 1):
        if number > 1 and number % 2:
            lr *= 0.5
        trained, loss = [], []
        for x, y in data:
            w = weights
            for _ in range(5):
                w = w - lr * x.T @ (x @ w - y) / len(x)
            trained.append(w)
            loss.append(np.mean((x @ w - y) ** 2))
        velocity = momentum * velocity + np.average(trained, axis=0, weights=sizes) - weights
        weights = weights + velocity
        losses.append(float(np.average(loss, weights=sizes)))
    return weights, losses


def test_an_app_with_its_own_strategy_gives_what_a_plain_loop_gives(tmp_path: Path) -> None:
    result = run_app("strategy_app", tmp_path / "run", nodes=5, run={"num-server-rounds": 3})
    weights, losses = strategy_by_hand(5, 3)
    np.testing.assert_allclose(load_file(tmp_path / "run" / "model.safetensors")["weights"], weights, rtol=1e-12)
    rounds = pq.read_table(tmp_path / "run" / "rounds.parquet").to_pydict()
    assert rounds["round"] == [0, 1, 2, 3]
    np.testing.assert_allclose(rounds["train/loss"][1:], losses, rtol=1e-12)
    assert [row.metrics["train/messages"] for row in result.rounds] == pytest.approx([1, 2, 3])
    np.testing.assert_allclose(result.rounds[-1].metrics["test/error"], np.abs(weights - np.arange(1, 5)).mean())
    clients = pq.read_table(tmp_path / "run" / "clients.parquet").to_pydict()
    assert clients["type"] == ["query"] * 5 + ["train"] * 15
    assert clients["partition"] == [*range(5)] * 4
    assert clients["metric/messages"][5:] == [1.0] * 5 + [2.0] * 5 + [3.0] * 5  # the state stays with the node
    assert (tmp_path / "run" / "flower.log").read_text().count("Aggregated MetricRecord") == 3


def test_classic_clients_and_a_classic_strategy_give_what_a_plain_loop_gives(tmp_path: Path) -> None:
    result = run_app("sklearn_app", tmp_path / "run", nodes=4, run={"num-server-rounds": 2})
    sys.path.insert(0, str(APPS / "sklearn_app"))
    from fl_sklearn.task import load_data, model_of, set_weights, weights_of
    from sklearn.metrics import log_loss

    weights = weights_of(model_of(1))
    for number in range(2):
        trained, sizes, losses, correct, counts = [], [], [], [], []
        for node in range(4):
            model = model_of(1)
            set_weights(model, weights)
            x, y, _, _ = load_data(node, 4)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model.fit(x, y)
            trained.append(weights_of(model))
            sizes.append(len(x))
        weights = [np.average([one[i] for one in trained], axis=0, weights=sizes) for i in range(2)]
        for node in range(4):
            model = model_of(1)
            set_weights(model, weights)
            _, _, x, y = load_data(node, 4)
            losses.append(log_loss(y, model.predict_proba(x), labels=[0, 1]))
            correct.append(model.score(x, y))
            counts.append(len(x))
        metrics = result.rounds[number].metrics
        assert metrics["evaluate/loss"] == pytest.approx(np.average(losses, weights=counts), rel=1e-9)
        assert metrics["evaluate/accuracy"] == pytest.approx(np.average(correct, weights=counts), rel=1e-9)
        assert result.rounds[number].samples == sum(sizes)
    model = load_file(tmp_path / "run" / "model.safetensors")
    np.testing.assert_allclose(model["0"], weights[0], rtol=1e-9)
    np.testing.assert_allclose(model["1"], weights[1], rtol=1e-9)


def test_a_torch_app_gives_what_a_plain_loop_gives(tmp_path: Path) -> None:
    told: list[str] = []

    class Notes:
        def preparing(self, what: str) -> None: ...
        def start(self, experiment: object, facts: object, *, after_round: int = 0) -> None: ...
        def round(self, row: object) -> None: ...
        def finish(self, summary: object) -> None: ...
        def note(self, text: str, level: str = "info") -> None:
            told.append(text)

    config = {"num-server-rounds": 2, "fixed-seed": True, "fraction-evaluate": 1.0}
    result = run_app("torch_app", tmp_path / "run", Notes(), nodes=3, run=config)
    sys.path.insert(0, str(APPS / "torch_app"))
    from fl_torch.task import Net, load_data, test, train

    torch.manual_seed(7)
    state = Net().state_dict()
    for number in range(1, 3):
        trained, sizes = [], []
        for node in range(3):
            net = Net()
            net.load_state_dict(state)
            torch.manual_seed(1000 * number + node)
            loader, _ = load_data(node, 3, 32)
            train(net, loader, 1, 0.1)
            trained.append(net.state_dict())
            sizes.append(len(loader.dataset))
        shares = [size / sum(sizes) for size in sizes]
        state = {
            name: sum(share * one[name] for share, one in zip(shares, trained, strict=True)) for name in trained[0]
        }
        net = Net()
        net.load_state_dict(state)
        found = [test(net, load_data(node, 3, 32)[1]) for node in range(3)]
        metrics = result.rounds[number - 1].metrics
        assert metrics["evaluate/eval_loss"] == pytest.approx(np.mean([loss for loss, _ in found]), abs=1e-6)
        assert metrics["evaluate/eval_acc"] == pytest.approx(np.mean([accuracy for _, accuracy in found]), abs=1e-6)
    for name, values in load_file(tmp_path / "run" / "model.safetensors").items():
        np.testing.assert_allclose(values, state[name].numpy(), atol=1e-6)
    assert sum("docs/flower.md" in text for text in told) == 1


def test_apps_that_seed_nothing_come_to_the_same_bits_again(tmp_path: Path) -> None:
    config = {"num-server-rounds": 1, "fraction-evaluate": 0.0}
    runs = [run_app("torch_app", tmp_path / str(i), seed=seed, nodes=4, run=config) for i, seed in enumerate([3, 3, 4])]
    bits = [{name: array.tobytes() for name, array in run.arrays.items()} for run in runs]
    assert bits[0] == bits[1]
    assert bits[0] != bits[2]
    clients = [(tmp_path / str(i) / "nodes.json").read_text() for i in range(3)]
    assert clients[0] == clients[1] != clients[2]


def test_a_client_that_raises_comes_back_as_an_error_and_the_others_count(tmp_path: Path) -> None:
    result = run_app("strategy_app", tmp_path / "run", nodes=4, run={"num-server-rounds": 1, "raising": 2})
    assert (result.rounds[0].trained, result.rounds[0].dropped, result.failures) == (3, 1, 1)
    clients = pq.read_table(tmp_path / "run" / "clients.parquet").to_pylist()
    failed = [row for row in clients if row["error"]]
    assert [(row["partition"], row["error"]) for row in failed] == [(2, "RuntimeError: partition 2 is broken")]
    assert "RuntimeError: partition 2 is broken" in (tmp_path / "run" / "log.jsonl").read_text()


def test_a_run_that_was_broken_off_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    whole = run_app("strategy_app", tmp_path / "whole", nodes=3, run={"num-server-rounds": 4})
    short = run_app("strategy_app", tmp_path / "run", nodes=3, run={"num-server-rounds": 2})
    replies = tmp_path / "run" / "replies.bin"
    replies.write_bytes(replies.read_bytes()[:-7])  # as a kill in the middle of a write leaves it
    resumed = FlowerSimulation.resume(tmp_path / "run", overrides=["run.num-server-rounds=4"])
    assert resumed.config.run == {"num-server-rounds": 4}
    again = resumed.run()
    assert short.arrays is not None
    assert whole.arrays["weights"].tobytes() == again.arrays["weights"].tobytes() != short.arrays["weights"].tobytes()
    assert [row.metrics for row in whole.rounds] == [row.metrics for row in again.rounds]
    assert '"replies": 8' in (tmp_path / "run" / "log.jsonl").read_text()  # of 3 queries and 6 trainings


def test_replies_to_other_messages_are_not_taken(tmp_path: Path) -> None:
    from raysim.errors import RunError

    run_app("strategy_app", tmp_path / "run", nodes=2, run={"num-server-rounds": 2})
    resumed = FlowerSimulation.resume(tmp_path / "run", overrides=["run.learning-rate=0.25"])
    with pytest.raises(RunError, match="message 2 to partition 0 is another one than before the break"):
        resumed.run()


def test_a_run_with_more_replies_than_allowed_says_that_it_cannot_be_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from raysim.errors import RunError

    config = settings(nodes=2, run={"num-server-rounds": 1})
    config["tracking"] = {"report": False, "reply_bytes": 500}
    FlowerSimulation(str(APPS / "strategy_app"), config, directory=tmp_path / "run").run()
    assert "tracking.reply_bytes: this run cannot be resumed" in capsys.readouterr().err
    with pytest.raises(RunError, match="no replies to continue from"):
        FlowerSimulation.resume(tmp_path / "run")


def test_the_app_whose_lines_are_counted_runs_and_learns(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run = {"num-server-rounds": 3, "fraction-train": 0.3, "log-to": str(tmp_path / "board")}
    result = run_app("own_app", tmp_path / "run", run=run)
    assert [row.cohort for row in result.rounds] == [30] * 3  # of the project file's 100 nodes
    assert result.rounds[-1].metrics["test/loss"] < result.rounds[0].metrics["test/loss"]
    assert list((tmp_path / "board").iterdir())
