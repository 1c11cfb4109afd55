"""BlazeFL, by the loop of its documentation, in each of its three execution modes.

Variants: `threads-N` (recommended by its documentation on a free-threaded Python 3.14), `processes-N` (one torch thread
each), `single-T` (one client at a time, T torch threads). Samples are tensors in RAM, inherited by forked processes;
a loader shuffles a client's samples by one gather and cuts them into batches, instead of fetching them one by one.
"""

from __future__ import annotations

import copy
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from blazefl.contrib import (
    FedAvgBaseClientTrainer,
    FedAvgBaseServerHandler,
    FedAvgProcessPoolClientTrainer,
    FedAvgThreadPoolClientTrainer,
)
from blazefl.core import ModelSelector, PartitionedDataset
from blazefl.reproducibility import setup_reproducibility
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from peers import models
from peers.side import Meter, Task, say

# Module state, because a process pool pickles what it is given for every client: this it inherits by fork.
_SAMPLES: dict[str, Tensor] = {}
_BOUNDS: list[int] = []
_WORK = torch.zeros(0, 3, dtype=torch.int64)
_PROTOTYPE: dict[str, nn.Module] = {}
_PER_THREAD = threading.local()


class Loader:
    """A client's batches, shuffled; counts what was taken, a row of shared memory for each client."""

    def __init__(self, client: int, batch: int, generator: torch.Generator | None) -> None:
        start, stop = _BOUNDS[client], _BOUNDS[client + 1]
        self.dataset = TensorDataset(_SAMPLES["x"][start:stop], _SAMPLES["y"][start:stop])
        self._client, self._batch, self._generator = client, batch, generator

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self.dataset), generator=self._generator)
        x, y = (tensor[order] for tensor in self.dataset.tensors)
        batches = 0
        for batch in zip(x.split(self._batch), y.split(self._batch), strict=True):
            yield batch
            batches += 1  # counted when the next is asked for: BlazeFL has made its step with this one
        _WORK[self._client] += torch.tensor([len(y), batches, batches])


class InMemory(PartitionedDataset):
    """Hands out loaders; holds nothing, so that it costs nothing to pickle."""

    def get_dataset(self, type_: Any, cid: int | None) -> TensorDataset:
        return Loader(cid or 0, 1, None).dataset

    def set_dataset(self, type_: Any, cid: int | None, dataset: Any) -> None:
        return

    def get_dataloader(
        self, type_: Any, cid: int | None, batch_size: int | None = None, generator: torch.Generator | None = None
    ) -> Any:
        return Loader(cid or 0, batch_size or 1, generator)


class Selector(ModelSelector):
    """The server's model, and one for clients per thread instead of one per client."""

    def select_model(self, model_name: str) -> nn.Module:
        if model_name == "server":
            return copy.deepcopy(_PROTOTYPE["model"])
        if not hasattr(_PER_THREAD, "model"):
            _PER_THREAD.model = copy.deepcopy(_PROTOTYPE["model"])
        return _PER_THREAD.model


class Handler(FedAvgBaseServerHandler):
    """BlazeFL's own server, told whom to sample."""

    cohorts: list[list[int]]

    def sample_clients(self) -> list[int]:
        return self.cohorts[self.round]


def main() -> None:
    """Run the task."""
    task = Task.read()
    workload = task.workload
    mode, count = task.variant.split("-")
    torch.set_num_threads(int(count) if mode == "single" else 1)
    setup_reproducibility(0)
    torch.manual_seed(0)
    federation = task.federation()
    _SAMPLES.update(x=torch.from_numpy(federation.x), y=torch.from_numpy(federation.y))
    _BOUNDS.extend(federation.bounds.tolist())
    _WORK.resize_(workload.clients, 3).zero_().share_memory_()
    _PROTOTYPE["model"] = models.build(workload)
    dataset, selector = InMemory(), Selector()
    handler = Handler(
        model_selector=selector,
        model_name="server",
        dataset=dataset,
        global_round=task.all_rounds,
        num_clients=workload.clients,
        sample_ratio=(workload.cohort + 1e-6) / workload.clients,  # it truncates the product
        device="cpu",
        batch_size=workload.batch,
        seed=0,
    )
    handler.cohorts = federation.cohorts.tolist()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as states:
        trainer = _trainer(task, mode, int(count), dataset, selector, Path(states))
        x_test, y_test = torch.from_numpy(federation.x_test), torch.from_numpy(federation.y_test)
        meter = Meter(task)
        while not handler.is_stopped():
            clients = handler.sample_clients()
            broadcast = handler.downlink_package()
            trainer.local_process(broadcast, clients)
            for package in trainer.uplink_package():
                handler.load(package)
            evaluated = models.accuracy(handler.model, x_test, y_test) if workload.evaluated else None
            meter.round(*_WORK.sum(0).tolist(), evaluated)
            _WORK.zero_()
        final = models.accuracy(handler.model, x_test, y_test) if len(y_test) else None
        gil = "" if sys.version_info >= (3, 14) else ", back-ported"
        versions = {"torch": torch.__version__, "blazefl": version("blazefl") + gil}
        say(meter.result(parameters=models.parameters(handler.model), versions=versions, accuracy=final))


def _trainer(task: Task, mode: str, count: int, dataset: InMemory, selector: Selector, states: Path) -> Any:
    workload = task.workload
    options: dict[str, Any] = {
        "model_selector": selector,
        "model_name": "client",
        "dataset": dataset,
        "device": "cpu",
        "num_clients": workload.clients,
        "epochs": 1,
        "batch_size": workload.batch,
        "lr": workload.lr,
        "seed": 0,
    }
    if mode == "single":
        return FedAvgBaseClientTrainer(**options)
    if mode == "threads":
        return FedAvgThreadPoolClientTrainer(num_parallels=count, **options)
    # The pool is forked anew for every round: what an optimiser imports when it is first made, it should not import
    # again in every process of every round.
    torch.optim.SGD(selector.select_model("client").parameters(), lr=workload.lr)
    return FedAvgProcessPoolClientTrainer(num_parallels=count, state_dir=states, **options)


if __name__ == "__main__":
    os.environ["TQDM_DISABLE"] = "1"
    # By its name, not as `__main__`: processes of the pool look its classes up there.
    from peers import blazefl as module

    module.main()
