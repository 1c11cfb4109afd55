"""Flower's simulation engine, set up as a careful user would.

One core for each `ClientApp`, so that Ray runs as many as there are cores. The code is importable by the actors, which
keep samples and model for as long as they live; torch uses the threads that Ray gives. No federated evaluation, no
telemetry, no dashboard, no log lines. The variant is the number of cores of a client.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

# Read when the packages are imported.
os.environ.update(
    FLWR_TELEMETRY_ENABLED="0",
    FLWR_DISABLE_UPDATE_CHECK="1",
    RAY_USAGE_STATS_ENABLED="0",
    RAY_DEDUP_LOGS="0",
    RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0",
)

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from torch import nn
from torch.nn.functional import cross_entropy

from peers import models
from peers.side import Meter, Task, say
from peers.workloads import Federation

client_app = ClientApp()
_KEPT: dict[str, tuple[Task, Federation, nn.Module]] = {}
"""What an actor has loaded, by the file of its task."""


@client_app.train()
def train(message: Message, context: Context) -> Message:
    """One local epoch of plain SGD of the client that the server named."""
    config = message.content["config"]
    task, federation, net = _load(config["task"])
    start, stop = federation.span(config["client"])
    net.load_state_dict(message.content["arrays"].to_torch_state_dict())
    net.train()
    optimizer = torch.optim.SGD(net.parameters(), lr=task.workload.lr, foreach=True)
    order = torch.randperm(stop - start) + start
    x, y = torch.from_numpy(federation.x)[order], torch.from_numpy(federation.y)[order]
    batches = steps = 0
    for inputs, labels in zip(x.split(task.workload.batch), y.split(task.workload.batch), strict=True):
        loss = cross_entropy(net(inputs), labels)
        batches += 1
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        steps += 1
    metrics = MetricRecord({"num-examples": stop - start, "batches": batches, "steps": steps})
    return Message(RecordDict({"arrays": ArrayRecord(net.state_dict()), "metrics": metrics}), reply_to=message)


class TimedFedAvg(FedAvg):
    """Flower's FedAvg, which names the client that each node trains and tells the meter of every round.

    Nodes are interchangeable: Flower's own sampling says which nodes work, the message says for which client, so that
    the cohorts are those of all sides.
    """

    def __init__(self, task: Task, federation: Federation, meter: Meter) -> None:
        workload = task.workload
        super().__init__(
            fraction_train=workload.cohort / workload.clients,
            min_train_nodes=workload.cohort,
            min_available_nodes=workload.clients,
            fraction_evaluate=0.0,
        )
        self._cohorts, self._meter, self._evaluated = federation.cohorts.tolist(), meter, workload.evaluated
        self._done = (0, 0, 0)
        self.arrays: ArrayRecord | None = None

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        messages = list(super().configure_train(server_round, arrays, config, grid))
        for message, client in zip(messages, self._cohorts[server_round - 1], strict=True):
            named = ConfigRecord({**config, "client": client})
            message.content = RecordDict({"arrays": message.content["arrays"], "config": named})
        return messages

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> Any:
        replies = list(replies)
        failed = [reply.error for reply in replies if reply.has_error()]
        if failed:
            raise RuntimeError(f"round {server_round}: {len(failed)} clients failed, the first: {failed[0]}")
        result = super().aggregate_train(server_round, replies)
        self.arrays = result[0]
        records = [reply.content["metrics"] for reply in replies]
        samples, batches, steps = (sum(int(r[key]) for r in records) for key in ("num-examples", "batches", "steps"))
        self._done = (samples, batches, steps)
        if not self._evaluated:
            self._meter.round(*self._done)
        return result

    def evaluated(self, accuracy: float) -> None:
        """The round's model has been evaluated: where every round is, this is its end."""
        self._meter.round(*self._done, accuracy)


def main() -> None:
    """Run the task."""
    task = Task.read()
    workload, federation = task.workload, task.federation()
    logging.getLogger("flwr").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = models.build(workload)
    meter = Meter(task)
    strategy = TimedFedAvg(task, federation, meter)
    x_test, y_test = torch.from_numpy(federation.x_test), torch.from_numpy(federation.y_test)

    def evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord:
        accuracy = test_accuracy(arrays)
        if server_round:  # 0 is the model before the first round
            strategy.evaluated(accuracy)
        return MetricRecord({"accuracy": accuracy})

    def test_accuracy(arrays: ArrayRecord) -> float:
        net.load_state_dict(arrays.to_torch_state_dict())
        return models.accuracy(net, x_test, y_test)

    server_app = ServerApp()

    @server_app.main()
    def serve(grid: Grid, context: Context) -> None:
        strategy.start(
            grid=grid,
            initial_arrays=ArrayRecord(net.state_dict()),
            num_rounds=task.all_rounds,
            timeout=36_000,
            train_config=ConfigRecord({"task": os.path.abspath(sys.argv[1])}),
            evaluate_fn=evaluate if workload.evaluated else None,
        )

    run_simulation(
        server_app,
        client_app,
        workload.clients,
        backend_config={
            "init_args": {
                "include_dashboard": False,
                "log_to_driver": False,
                "logging_level": "ERROR",
                "num_cpus": task.cores,
            },
            "client_resources": {"num_cpus": float(task.variant), "num_gpus": 0.0},
        },
    )
    assert strategy.arrays is not None, "at least one round was trained"
    final = test_accuracy(strategy.arrays) if len(y_test) else None
    versions = {"torch": torch.__version__, "flwr": version("flwr"), "ray": version("ray")}
    say(meter.result(parameters=models.parameters(net), versions=versions, accuracy=final))


def _load(file: str) -> tuple[Task, Federation, nn.Module]:
    if file not in _KEPT:
        task = Task.from_file(file)
        torch.set_num_threads(max(1, int(float(task.variant))))
        _KEPT[file] = (task, task.federation(), models.build(task.workload))
    return _KEPT[file]


if __name__ == "__main__":
    # By its name, not as `__main__`: the actors then find it by reference, with what it keeps.
    from peers import flower as module

    module.main()
