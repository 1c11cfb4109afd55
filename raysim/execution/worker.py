"""What a worker does, wherever it runs: trains leases of clients and evaluates the model."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from raysim.aggregation import Buffers, PartialSum, RunningSum, Weighting, sum_fields
from raysim.algorithms import build_algorithm
from raysim.errors import ClientError, RaysimError, RunError
from raysim.execution.engine_choice import local_update
from raysim.execution.environment import pin_gpu_bits
from raysim.execution.scheduling import even_blocks
from raysim.execution.shards import DeviceShards
from raysim.execution.work import (
    Evaluated,
    EvaluationRange,
    Float32,
    Float64,
    HoldoutRange,
    Int32,
    Int64,
    Job,
    Lease,
    LeaseReport,
)
from raysim.tracking.rows import PARTS, client_batch
from raysim.training import (
    BlockResult,
    CannotCapture,
    Evaluator,
    ParameterLayout,
    RoundSetting,
    Trainer,
    build_engine,
    resolve_loss,
    resolve_metrics,
    torch_threads,
)


class ClientWorker:
    """Hosts clients: their shards, one engine, one evaluator. Keeps nothing between rounds but caches."""

    def __init__(self, job: Job, index: int) -> None:
        experiment = job.experiment
        self.job, self.index = job, index
        self.federation = job.federation.open()
        info = self.federation.info
        self.device = job.engine.torch_device
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
        update = local_update(job, self.algorithm)
        self.shards = DeviceShards(self.federation, self.device, experiment.execution.shard_memory)
        work = self.algorithm.work(experiment.client)
        with torch_threads(job.engine.threads):
            try:
                engine = build_engine(job.engine, module, layout, loss, info, work, update)
            except CannotCapture as reason:
                raise RunError(f"this worker cannot train rows as the driver can: {reason}") from reason
        self.trainer = Trainer(
            engine, update.optimizer, work, update.clip_norm, self.algorithm, self.algorithm.sees_gradients
        )
        self._fields = sum_fields(self.algorithm.fields(), exact=experiment.aggregation.exact)
        self._host, self._buffers = torch.zeros(layout.size), Buffers()
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
        running = RunningSum(lease.round, self._fields, self.device, self._buffers)
        setting = RoundSetting(self.job.experiment.seed, lease.round, lease.lr)
        count = len(lease.clients)
        weight, loss, seconds = np.zeros(count), np.full(count, np.nan), np.zeros(count)
        dropped: list[str | None] = [None] * count
        clamped = 0
        sizes = self.federation.sizes("train", lease.clients)
        steps = self.trainer.work.count(sizes)
        parts = dict.fromkeys(PARTS, 0.0)
        for block in even_blocks(count, self.trainer.engine.capacity):
            block_began = time.perf_counter()
            result, factor, clamps = self._block(setting, lease.clients[block])
            trained = time.perf_counter() - block_began
            weight[block], loss[block] = lease.weights[block] * factor, result.loss
            try:
                dropped[block] = self._fold(running, lease.positions[block], weight[block], result.sent)
            except ValueError as error:  # what the algorithm sends is not what it declares
                raise _client_error(lease.clients[block], lease.round, error) from error
            clamped += clamps
            spent = time.perf_counter() - block_began
            seconds[block] = spent * (steps[block] + 1) / (steps[block] + 1).sum()
            parts["train/shards"] += trained - sum(result.seconds.values())
            parts["train/batches"] += result.seconds["batches"]
            parts["train/steps"] += result.seconds["steps"]
            parts["train/fold"] += spent - trained
        weight[[reason is not None for reason in dropped]] = 0.0
        total = running.seal()
        facts = client_batch(
            round=lease.round,
            client=lease.clients,
            samples=sizes,
            steps=steps,
            weight=weight,
            loss=loss,
            seconds=seconds,
            worker=np.full(count, self.index),
            dropped=dropped,
        )
        phases = {"broadcast": received - began, "train": time.perf_counter() - received, **parts}
        return total, LeaseReport(facts, lease.positions, clamped, phases, total.nbytes)

    def _block(self, setting: RoundSetting, clients: Int64) -> tuple[BlockResult, Float64, int]:
        """Train a block of clients; what came out, the factor of each one's weight, and how many had to be clamped."""
        try:
            shards = self.shards.of(clients)
            factors, clamped = self._factors(clients)
            return self.trainer.train(setting, self._broadcast, clients, shards), factors, clamped
        except (ClientError, RunError):
            raise
        except Exception as error:
            if len(clients) > 1:  # one of them is to blame
                for one in range(len(clients)):
                    self._block(setting, clients[one : one + 1])
            if isinstance(error, RaysimError):
                if len(clients) == 1:
                    error.client, error.round = int(clients[0]), setting.round
                raise
            raise _client_error(clients, setting.round, error) from error

    def _fold(
        self, running: RunningSum, positions: Int32, weights: Float64, sent: Mapping[str, torch.Tensor]
    ) -> list[str | None]:
        """Add a block's records to the sum; why clients were left out."""
        known = np.isfinite(weights)
        if known.all():
            return running.fold(positions, weights, sent)
        rows = torch.from_numpy(np.flatnonzero(known)).to(self.device)
        reasons = iter(running.fold(positions[known], weights[known], {name: t[rows] for name, t in sent.items()}))
        return [next(reasons) if is_known else "its loss under the broadcast model is not finite" for is_known in known]

    def _factors(self, clients: Int64) -> tuple[Float64, int]:
        """What the loss of the broadcast model says about each client's weight, and how many were clamped."""
        factors, clamped = np.ones(len(clients)), 0
        if self.weighting.needs_loss:
            self.evaluator.load(self._broadcast)
            for i, client in enumerate(clients.tolist()):
                shard = self.federation.shard(client)
                if len(shard):
                    factors[i], was_clamped = self.weighting.factor(self.evaluator.mean_loss(shard))
                    clamped += was_clamped
        return factors, clamped

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


def _client_error(clients: Int64, round_number: int, error: Exception) -> ClientError:
    alone = len(clients) == 1
    who = f"client {clients[0]}" if alone else f"clients {clients[0]}, {clients[1]}, … together"
    reason = f"{type(error).__name__}: {error}"
    return ClientError(
        f"{who}, round {round_number}: {reason}",
        client=int(clients[0]) if alone else None,
        round=round_number,
        reason=reason,
        memory=isinstance(error, MemoryError | torch.OutOfMemoryError),
    )


def _cuda_devices(device: torch.device) -> list[torch.device]:
    return [device] if device.type == "cuda" else []
