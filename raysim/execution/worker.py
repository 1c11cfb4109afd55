"""What a worker does, wherever it runs: trains leases of clients and evaluates the model."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from raysim.aggregation import PartialSum, RunningSum, Weighting
from raysim.algorithms import build_algorithm
from raysim.data import Samples
from raysim.errors import ClientError, RaysimError
from raysim.execution.environment import device_of, pin_gpu_bits
from raysim.execution.work import Evaluated, EvaluationRange, Float32, Float64, HoldoutRange, Job, Lease, LeaseReport
from raysim.tracking.rows import client_batch
from raysim.training import (
    Evaluator,
    ParameterLayout,
    RoundSetting,
    SequentialEngine,
    Trainer,
    resolve_loss,
    resolve_metrics,
    row_optimizer,
    torch_threads,
)


class ClientWorker:
    """Hosts clients: their shards, one engine, one evaluator. Keeps nothing between rounds but caches."""

    def __init__(self, job: Job, index: int) -> None:
        experiment = job.experiment
        self.job, self.index = job, index
        self.federation = job.federation.open()
        info = self.federation.info
        self.device = device_of(job.engine)
        if self.device.type == "cuda":
            pin_gpu_bits()
        module = job.build_module(info)
        layout = ParameterLayout(module)
        loss = resolve_loss(experiment.training, info)
        self.algorithm = build_algorithm(experiment.algorithm, layout)
        self.weighting = Weighting(experiment.aggregation.weights)
        self.metrics = resolve_metrics(experiment.evaluation.metrics, info, experiment.training.loss)
        self.evaluator = Evaluator(
            module, layout, loss, self.metrics, info, self.device, experiment.evaluation.batch_size
        )
        optimizer = self.algorithm.local_optimizer(experiment.client)
        self.trainer = Trainer(
            SequentialEngine(module, layout, loss, info, self.device),
            None if optimizer is None else row_optimizer(optimizer),
            self.algorithm.work(experiment.client),
            experiment.client.clip_norm,
            self.algorithm,
        )
        self._host = torch.zeros(layout.size)
        self._broadcast = self._host.to(self.device)

    def train(self, lease: Lease, model: Float32) -> tuple[PartialSum, LeaseReport]:
        """Train the lease's clients from the model `[P]`, which is only read; their sum and the facts about them.

        Raises:
            ClientError: a client's own code failed; names the client, the round and the error.
        """
        with self._own_setting(), torch.enable_grad():
            return self._train(lease, model)

    def _train(self, lease: Lease, model: Float32) -> tuple[PartialSum, LeaseReport]:
        began = time.perf_counter()
        self._receive(model)
        received = time.perf_counter()
        running = RunningSum(lease.round, self.algorithm.fields(), self.device)
        setting = RoundSetting(self.job.experiment.seed, lease.round, lease.lr)
        count = len(lease.clients)
        weight, loss, seconds = np.zeros(count), np.full(count, np.nan), np.zeros(count)
        dropped: list[str | None] = [None] * count
        clamped = 0
        sizes = self.federation.sizes("train", lease.clients)
        block_size = self.trainer.engine.capacity
        for start in range(0, count, block_size):
            block = range(start, min(start + block_size, count))
            block_began = time.perf_counter()
            clients = [int(lease.clients[i]) for i in block]
            try:
                shards = [self.federation.shard(client) for client in clients]
                weights = [self._weight(lease.weights[i], shard) for i, shard in zip(block, shards, strict=True)]
                result = self.trainer.train(setting, self._broadcast, clients, shards)
                for row, i in enumerate(block):
                    position, (w, was_clamped) = int(lease.positions[i]), weights[row]
                    clamped += was_clamped
                    loss[i] = result.loss[row]
                    if sizes[i] == 0:
                        running.attend(position)
                    elif not np.isfinite(w):
                        dropped[i] = "its loss under the broadcast model is not finite"
                    else:
                        dropped[i] = running.fold(position, w, {name: t[row] for name, t in result.sent.items()})
                        weight[i] = 0.0 if dropped[i] else w
            except RaysimError:
                raise
            except Exception as error:
                who = f"client {clients[0]}" if len(clients) == 1 else f"clients {clients[0]}…{clients[-1]}"
                raise ClientError(f"{who}, round {lease.round}: {type(error).__name__}: {error}") from error
            seconds[block.start : block.stop] = (time.perf_counter() - block_began) / len(block)
        total = running.seal()
        facts = client_batch(
            round=lease.round,
            client=lease.clients,
            samples=sizes,
            steps=self.trainer.work.count(sizes),
            weight=weight,
            loss=loss,
            seconds=seconds,
            worker=np.full(count, self.index),
            dropped=dropped,
        )
        spent = {"broadcast": received - began, "train": time.perf_counter() - received}
        return total, LeaseReport(facts, lease.positions, clamped, spent, total.nbytes)

    def evaluate(self, ranges: Sequence[EvaluationRange], model: Float32) -> list[Evaluated]:
        """Sums of the metrics of the model `[P]` over each range."""
        with self._own_setting():
            self._receive(model)
            self.evaluator.load(self._broadcast)
            return [self._evaluate(part) for part in ranges]

    def _evaluate(self, part: EvaluationRange) -> Evaluated:
        if isinstance(part, HoldoutRange):
            shards = [self.federation.shard(client, "holdout") for client in part.clients.tolist()]
            rows: Float64 = np.stack([self.evaluator.sums(shard) for shard in shards])
            return Evaluated("holdout", rows, part.clients)
        samples = self.federation.server(part.part)
        assert samples is not None, f"the driver asks only for sets that exist, not for {part.part!r}"
        return Evaluated(part.part, self.evaluator.exact_sums(samples.slice(part.start, part.stop)))

    def _weight(self, base: float, shard: Samples) -> tuple[float, bool]:
        if not self.weighting.needs_loss or not len(shard):
            return base, False
        self.evaluator.load(self._broadcast)
        factor, clamped = self.weighting.factor(self.evaluator.mean_loss(shard))
        return base * factor, clamped

    @contextmanager
    def _own_setting(self) -> Iterator[None]:
        """The run's number of threads, and generators that may be moved; the caller's come back afterwards."""
        with torch_threads(self.job.engine.threads), torch.random.fork_rng(_cuda_devices(self.device)):
            yield

    def _receive(self, model: Float32) -> None:
        # A copy: the array is shared with other processes, and torch would not stop a write to it.
        self._host.numpy()[:] = model
        if self._broadcast is not self._host:
            self._broadcast.copy_(self._host)


def _cuda_devices(device: torch.device) -> list[torch.device]:
    return [device] if device.type == "cuda" else []
