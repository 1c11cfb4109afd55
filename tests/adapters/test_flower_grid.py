"""What a server program and its clients may count on, with apps that are written here."""

from __future__ import annotations

import random
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("flwr")
from app_runs import run_app, settings
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.server import ServerAppComponents, ServerConfig
from flwr.server.strategy import FedAvg
from flwr.serverapp import Grid, ServerApp

from raysim.adapters.flower import FlowerSimulation
from raysim.adapters.flower.grid import grid
from raysim.adapters.flower.library import identify
from raysim.adapters.flower.records import decode, encode
from raysim.errors import RunError


def apps(main: Any, answer: Any) -> tuple[ServerApp, ClientApp]:
    """A server program, and clients that answer all messages alike."""
    server, client = ServerApp(), ClientApp()
    server.main()(main)
    for register in (client.train, client.evaluate, client.query):
        register()(answer)
    return server, client


def echo(message: Message, context: Context) -> Message:
    """The content again."""
    return Message(message.content, reply_to=message)


def test_replies_come_in_the_order_of_node_ids_and_nodes_know_their_partition(tmp_path: Path) -> None:
    seen: dict[str, Any] = {}

    def main(grid: Grid, context: Context) -> None:
        nodes = list(grid.get_node_ids())
        messages = [Message(RecordDict(), node, "query") for node in reversed(nodes)]
        replies = list(grid.send_and_receive(messages))
        seen["nodes"] = nodes
        seen["order"] = [reply.metadata.src_node_id for reply in replies]
        seen["told"] = [dict(reply.content["told"]) for reply in replies]
        seen["run"] = {context.run_id, grid.run.run_id, *(reply.metadata.run_id for reply in replies)}

    def answer(message: Message, context: Context) -> Message:
        assert context.run_config == {"lr": 0.5}
        told = MetricRecord({**context.node_config, "node": context.node_id})
        return Message(RecordDict({"told": told}), reply_to=message)

    run_app(apps(main, answer), tmp_path / "run", nodes=7, run={"lr": 0.5})
    assert len(set(seen["nodes"])) == 7
    assert seen["order"] == sorted(seen["nodes"])
    assert [one["node"] for one in seen["told"]] == seen["order"]
    assert [one["partition-id"] for one in seen["told"]] == [seen["nodes"].index(node) for node in seen["order"]]
    assert {one["num-partitions"] for one in seen["told"]} == {7}
    assert len(seen["run"]) == 1


def test_a_client_changes_nothing_but_its_reply_and_its_state(tmp_path: Path) -> None:
    def main(grid: Grid, context: Context) -> None:
        arrays = ArrayRecord({"w": Array(np.zeros(2000))})
        state = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
        messages = [Message(RecordDict({"arrays": arrays}), node, "train") for node in grid.get_node_ids()]
        for reply in grid.send_and_receive(messages):
            assert reply.content["arrays"]["w"].numpy()[0] == 1.0
        assert arrays["w"].numpy().sum() == 0
        now = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
        assert now == state

    def answer(message: Message, context: Context) -> Message:
        assert message.content["arrays"]["w"].numpy().sum() == 0  # another client's change is not seen
        message.content["arrays"]["w"] = Array(np.ones(2000))
        random.random(), np.random.random(), torch.rand(1)  # noqa: NPY002
        return Message(message.content, reply_to=message)

    run_app(apps(main, answer), tmp_path / "run", nodes=3)


def test_random_numbers_belong_to_the_node_and_the_message(tmp_path: Path) -> None:
    drawn: list[list[tuple[float, ...]]] = []

    def main(grid: Grid, context: Context) -> None:
        nodes = list(grid.get_node_ids())
        for order in (nodes, nodes[::-1]):
            replies = grid.send_and_receive([Message(RecordDict(), node, "query") for node in order])
            drawn.append([tuple(reply.content["m"]["drawn"]) for reply in replies])

    def answer(message: Message, context: Context) -> Message:
        values = [random.random(), float(np.random.random()), float(torch.rand(1))]  # noqa: NPY002
        return Message(RecordDict({"m": MetricRecord({"drawn": values})}), reply_to=message)

    for _ in range(2):
        run_app(apps(main, answer), tmp_path / str(len(drawn)), nodes=3)
    assert drawn[:2] == drawn[2:]
    assert len({value for one in drawn[:2] for three in one for value in three}) == 18


def test_messages_of_one_node_are_answered_in_their_order(tmp_path: Path) -> None:
    counts: list[int] = []

    def main(grid: Grid, context: Context) -> None:
        node = next(iter(grid.get_node_ids()))
        ids = grid.push_messages([Message(RecordDict(), node, "query") for _ in range(3)])
        counts.extend(reply.content["m"]["count"] for reply in grid.pull_messages(ids))
        assert list(grid.pull_messages(ids)) == []  # they are taken already

    def answer(message: Message, context: Context) -> Message:
        before = context.state["m"]["count"] if "m" in context.state else 0
        context.state["m"] = MetricRecord({"count": before + 1})
        return Message(RecordDict({"m": MetricRecord({"count": before + 1})}), reply_to=message)

    run_app(apps(main, answer), tmp_path / "run", nodes=2)
    assert counts == [1, 2, 3]


class Silent:
    """Clients that never answer."""

    workers = 1

    def __init__(self) -> None:
        self.faults: SimpleQueue[str] = SimpleQueue()

    def keep(self, value: Any) -> Any:
        return value

    def submit(self, name: str, work: Any, parts: Any = ()) -> Future[Any]:
        return Future()

    def close(self) -> None: ...


def test_messages_without_a_reply_in_time_are_errors_or_left_out() -> None:
    identify(7)
    silent = grid(Silent(), [5, 6], 7, {}, replies=None, sent=lambda message: None, received=lambda sent, answer: None)
    (expired,) = silent.send_and_receive([Message(RecordDict(), 5, "query", ttl=1e-3)])
    assert expired.error.code == 4  # REPLY_MESSAGE_UNAVAILABLE
    assert silent.send_and_receive([Message(RecordDict(), 6, "query")], timeout=1e-3) == []
    assert silent.late == 2


def test_what_a_server_program_raises_is_one_line(tmp_path: Path) -> None:
    def main(grid: Grid, context: Context) -> None:
        raise ValueError("no such\nthing")

    with pytest.raises(RunError, match=r"^flower:in memory: the server app: ValueError: no such thing$"):
        run_app(apps(main, echo), tmp_path / "run", nodes=2)
    assert "no such thing" in (tmp_path / "run" / "log.jsonl").read_text()

    def unknown(grid: Grid, context: Context) -> None:
        grid.send_and_receive([Message(RecordDict(), 5, "query")])

    with pytest.raises(RunError, match="there is no node 5"):
        run_app(apps(unknown, echo), tmp_path / "other", nodes=2)


def test_rounds_are_counted_where_an_app_does_not_say_them(tmp_path: Path) -> None:
    def main(grid: Grid, context: Context) -> None:
        nodes = list(grid.get_node_ids())
        for number in range(3):
            record = RecordDict({"m": MetricRecord({"value": float(number), "num-examples": 2})})
            grid.send_and_receive([Message(record, node, "train") for node in nodes])
            grid.send_and_receive([Message(record, node, "evaluate") for node in nodes])

    result = run_app(apps(main, echo), tmp_path / "run", nodes=2)
    assert [row.round for row in result.rounds] == [1, 2, 3]
    assert [row.metrics for row in result.rounds] == [{"train/value": i, "evaluate/value": i} for i in range(3)]
    assert [row.samples for row in result.rounds] == [4, 4, 4]
    assert result.arrays is None


def test_a_classic_strategy_gets_its_results_by_node_whoever_is_first(tmp_path: Path) -> None:
    orders: list[list[int]] = []

    class Watched(FedAvg):
        def aggregate_fit(self, server_round: int, results: Any, failures: Any) -> Any:
            orders.append([client.node_id for client, _ in results])
            assert len(failures) == 1
            return super().aggregate_fit(server_round, results, failures)

    from flwr.client import NumPyClient

    class Client(NumPyClient):
        def __init__(self, partition: int) -> None:
            self.partition = partition

        def get_parameters(self, config: Any) -> Any:
            return [np.zeros(3)]

        def fit(self, parameters: Any, config: Any) -> Any:
            if self.partition == 1:
                raise RuntimeError("broken")
            return [parameters[0] + self.partition], 1 + self.partition, {}

        def evaluate(self, parameters: Any, config: Any) -> Any:
            return float(parameters[0][0]), 1, {}

    def server_fn(context: Context) -> ServerAppComponents:
        return ServerAppComponents(strategy=Watched(), config=ServerConfig(num_rounds=2))

    client = ClientApp(client_fn=lambda context: Client(context.node_config["partition-id"]).to_client())
    result = run_app((ServerApp(server_fn=server_fn), client), tmp_path / "run", nodes=4)
    assert all(order == sorted(order) for order in orders)
    assert len(orders) == 2
    mean = (0 * 1 + 2 * 3 + 3 * 4) / 8
    assert result.arrays["0"].tolist() == pytest.approx([2 * mean] * 3)
    assert [row.metrics["evaluate/loss"] for row in result.rounds] == pytest.approx([mean, 2 * mean])
    assert [row.dropped for row in result.rounds] == [1, 1]


def test_records_come_out_of_their_encoding_as_they_went_in() -> None:
    given = RecordDict(
        {
            "arrays": ArrayRecord({"a": Array(np.arange(6.0).reshape(2, 3)), "b": Array(np.array(7, np.int64))}),
            "numbers": MetricRecord({"i": 3, "f": 0.1 + 0.2, "list": [1.5, float("inf")], "whole": [1, 2]}),
            "words": ConfigRecord({"s": "ä", "b": b"\x00\xff", "flag": True, "many": [b"1", b"22"], "texts": ["x"]}),
            "empty": MetricRecord(),
        }
    )
    assert decode(encode(given)) == given
    assert list(decode(encode(given))) == list(given)
    assert encode(given) == encode(decode(encode(given)))


def test_an_app_in_memory_cannot_be_resumed(tmp_path: Path) -> None:
    run_app(apps(lambda grid, context: None, echo), tmp_path / "run", nodes=1)
    with pytest.raises(RunError, match="handed over in memory"):
        FlowerSimulation.resume(tmp_path / "run")
    assert settings()["execution"] == {"executor": "inprocess"}


def test_clients_compute_with_as_many_threads_as_they_are_given(tmp_path: Path) -> None:
    threads: list[int] = []

    def main(grid: Grid, context: Context) -> None:
        for reply in grid.send_and_receive([Message(RecordDict(), node, "query") for node in grid.get_node_ids()]):
            threads.append(reply.content["m"]["threads"])

    def answer(message: Message, context: Context) -> Message:
        return Message(RecordDict({"m": MetricRecord({"threads": torch.get_num_threads()})}), reply_to=message)

    before = torch.get_num_threads()
    execution = {"executor": "inprocess", "threads_per_client": 3}
    run_app(apps(main, answer), tmp_path / "run", nodes=2, execution=execution)
    assert threads == [3, 3]
    assert torch.get_num_threads() == before
