"""pfl-research, set up as its guide on fast simulations says.

Variants `PxT`: P processes of T torch threads. With P > 1 they find each other as the guide has it, by
`PFL_WORKER_ADDRESSES` and `PFL_WORKER_RANK`; `PxT-balanced` spreads clients of unequal size by `user_id_to_weight`.
Samples are torch tensors in RAM behind pfl's own in-memory `Dataset`, the fastest of its layouts; a client's `Dataset`
is made once and kept, with the batches that it cuts. No local evaluation, no metrics, no callback but the clock.
"""

from __future__ import annotations

import itertools
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from peers import models
from peers.side import Meter, Task, say
from peers.workloads import Federation


def main() -> None:
    """Start the processes of the task, and print what the first measured with the work of all."""
    task = Task.read()
    processes, _, _ = _parse(task.variant)
    environment = {**os.environ, "PFL_PYTORCH_DEVICE": "cpu"}
    if processes > 1:
        environment["PFL_WORKER_ADDRESSES"] = ",".join(_free_addresses(processes))
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", "peers.pfl", sys.argv[1], "rank"],
            env={**environment, "PFL_WORKER_RANK": str(rank)} if processes > 1 else environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(processes)
    ]
    outputs = [rank.communicate()[0] for rank in ranks]
    if any(rank.returncode for rank in ranks):
        raise SystemExit("a process of pfl failed")
    results = [json.loads(output.splitlines()[-1]) for output in outputs]
    by_round = zip(*(result["work"] for result in results), strict=True)
    work = [[sum(part) for part in zip(*parts, strict=True)] for parts in by_round]
    say({**results[0], "work": work})


def run_rank(task: Task) -> None:
    """One process: a copy of the model, its share of every cohort."""
    import numpy as np
    import torch

    _, threads, balanced = _parse(task.variant)
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - pfl draws from NumPy's global generator

    from importlib.metadata import version

    from pfl.aggregate.simulate import SimulatedBackend
    from pfl.aggregate.weighting import WeightByDatapoints
    from pfl.algorithm.base import NNAlgorithmParams
    from pfl.algorithm.federated_averaging import FederatedAveraging
    from pfl.callback.base import TrainingProcessCallback
    from pfl.data.dataset import Dataset
    from pfl.data.federated_dataset import FederatedDataset
    from pfl.hyperparam.base import NNEvalHyperParams, NNTrainHyperParams
    from pfl.internal.ops import pytorch_ops
    from pfl.metrics import Metrics, Weighted
    from pfl.model.pytorch import PyTorchModel

    workload, federation = task.workload, task.federation()
    x, y, x_test, y_test = map(torch.from_numpy, (federation.x, federation.y, federation.x_test, federation.y_test))
    done = [0, 0, 0]

    class Net(torch.nn.Sequential):
        """The model with the two methods that pfl asks for."""

        def loss(self, inputs: Any, labels: Any, eval: bool = False) -> Any:
            self.train(not eval)
            if not eval:
                done[0] += len(labels)
                done[1] += 1
            return torch.nn.functional.cross_entropy(self(inputs), labels)

        @torch.no_grad()
        def metrics(self, inputs: Any, labels: Any, eval: bool = True) -> dict[str, Any]:
            return {"loss": Weighted(self.loss(inputs, labels, eval=eval).item() * len(labels), len(labels))}

    class CountingSGD(torch.optim.SGD):
        """Counts its steps."""

        def step(self, closure: Any = None) -> Any:
            done[2] += 1
            return super().step(closure)

    class Clock(TrainingProcessCallback):
        """Tells the meter of each round."""

        def after_central_iteration(self, aggregate_metrics: Any, model: Any, *, central_iteration: int) -> Any:
            first = pytorch_ops.distributed.global_rank == 0
            evaluated = models.accuracy(net, x_test, y_test) if workload.evaluated and first else None
            meter.round(*done, evaluated)
            done[:] = [0, 0, 0]
            return False, Metrics()

    net = Net(*models.build(workload))
    weights = dict(enumerate(np.diff(federation.bounds).tolist())) if balanced else None
    kept: dict[int, Any] = {}

    def shard(client: int) -> Any:
        if client not in kept:
            start, stop = federation.span(client)
            kept[client] = Dataset((x[start:stop], y[start:stop]), user_id=str(client))
        return kept[client]

    data = FederatedDataset(shard, _prescribed(federation), weights)
    model = PyTorchModel(net, partial(CountingSGD, foreach=True), torch.optim.SGD(net.parameters(), 1.0))
    meter = Meter(task)
    FederatedAveraging().run(
        algorithm_params=NNAlgorithmParams(
            central_num_iterations=task.all_rounds,
            evaluation_frequency=10**9,
            train_cohort_size=workload.cohort,
            val_cohort_size=0,
        ),
        backend=SimulatedBackend(training_data=data, val_data=data, postprocessors=[WeightByDatapoints()]),
        model=model,
        model_train_params=NNTrainHyperParams(
            local_num_epochs=1, local_learning_rate=workload.lr, local_batch_size=workload.batch
        ),
        model_eval_params=NNEvalHyperParams(local_batch_size=None),
        callbacks=[Clock()],
        send_metrics_to_platform=False,
    )
    final = models.accuracy(net, x_test, y_test) if len(y_test) else None
    versions = {"torch": torch.__version__, "pfl": version("pfl")}
    say(meter.result(parameters=models.parameters(net), versions=versions, accuracy=final))


def _parse(variant: str) -> tuple[int, int, bool]:
    """Processes, threads of each, and whether clients are balanced."""
    layout, _, balanced = variant.partition("-")
    processes, threads = layout.split("x")
    return int(processes), int(threads), balanced == "balanced"


def _prescribed(federation: Federation) -> Callable[[], int]:
    """A user sampler that draws the cohorts of all sides, client by client; over again, for pfl draws ahead."""
    clients = itertools.cycle(federation.cohorts.reshape(-1).tolist())
    return lambda: next(clients)


def _free_addresses(count: int) -> list[str]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    finally:
        for one in sockets:
            one.close()


if __name__ == "__main__":
    if sys.argv[2:] == ["rank"]:
        run_rank(Task.read())
    else:
        main()
