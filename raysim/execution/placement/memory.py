"""What one client actor needs of its machine's memory, and of its GPU's, before anything starts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from raysim.aggregation import Aggregation, build_aggregation
from raysim.algorithms import Algorithm, build_algorithm
from raysim.data import DataInfo, Federation, Samples
from raysim.execution.clients.broadcast import SharedVectors
from raysim.execution.clients.local_training import client_vectors, heard, local_optimizer
from raysim.execution.clients.state import StateLayout
from raysim.execution.placement.placing import ACTOR_BYTES
from raysim.machine import cores
from raysim.models import model_on_meta
from raysim.models.quantised import quantised_bytes
from raysim.rounds.job import Job
from raysim.selection.cohort import cohort_size
from raysim.training import Heard, ParameterLayout
from raysim.training.batches import Shard, model_input, target
from raysim.training.resident import RESIDENT_BYTES

CUDA_CONTEXT = 500 * 1024 * 1024
"""What a process takes of a GPU before it computes anything: between 300 and 500 MB, by the GPU and the driver."""

LEASE_STATE_BYTES = 128 * 1024 * 1024
"""What the clients of a lease may keep: it travels as one object, there and back."""

MAPPED_FROM = 64 * 1024 * 1024
"""Frozen parameters from this size on are mapped from a file, where there are actors; smaller ones are copied."""

_FLOAT32 = 4


@dataclass(frozen=True, slots=True)
class ActorMemory:
    """Estimated bytes of one client actor. What a model's own activations take is not known, and not counted.

    Attributes:
        process: a Python process with torch.
        model: the broadcast, the rows that train, their gradients and updates, the evaluator's model.
        optimizer: the local optimiser's state.
        sums: the records of a lease, as the rule folds them.
        shard: the samples that it keeps from round to round, at least those of a block of the largest clients.
        state: what the clients that train at once, and those of a lease, keep from round to round.
        sets: what its evaluator keeps of the server's sets, as the model takes them.
        base: the frozen parameters, where all actors of a node map them from one file; no part of the total.
        gpu: what it needs of its GPU; there all but the process itself are counted once more.
    """

    process: int
    model: int
    optimizer: int
    sums: int
    shard: int
    state: int = 0
    sets: int = 0
    base: int = 0
    gpu: int = 0

    @property
    def total(self) -> int:
        """Of the machine's memory, what the actor has for itself."""
        return self.process + self.model + self.optimizer + self.sums + self.shard + self.state + self.sets


@dataclass(frozen=True, slots=True)
class Skeleton:
    """A job's model without values, and its algorithm: what sizes are derived from before anything starts.

    Attributes:
        program: what clients do in a round, as a dry run hears it.
        frozen: bytes of frozen parameters, which all modules of a process share.
        kept: bytes of buffers that are no part of the layout, of which every module has its own.
    """

    job: Job
    layout: ParameterLayout
    algorithm: Algorithm
    program: Heard
    frozen: int
    kept: int

    @classmethod
    def of(cls, job: Job) -> Skeleton:
        """Build the model once, on the meta device.

        Raises:
            DataError, ModelError: the job's data or model cannot be used.
        """
        experiment, info = job.experiment, job.federation.open().info
        versions = experiment.algorithm.versions
        module = model_on_meta(
            experiment.model, info, loss=experiment.training.loss, module=job.module, versions=versions
        )
        layout = ParameterLayout(module)
        inside = {segment.name for segment in layout.segments}
        bits = getattr(experiment.model, "bits", None)
        stored = {} if bits is None else quantised_bytes(module, bits)
        frozen = sum(stored.get(name, one.nbytes) for name, one in module.named_parameters() if name not in inside)
        kept = sum(one.nbytes for name, one in module.named_buffers() if name not in inside)
        algorithm = build_algorithm(experiment.algorithm, layout)
        return cls(job, layout, algorithm, heard(experiment, algorithm), frozen, kept)

    @property
    def columns(self) -> int:
        """P, of the model vector."""
        return self.layout.size

    @property
    def aggregation(self) -> Aggregation:
        """How the clients' records become one."""
        return build_aggregation(self.job.experiment.aggregation, self.algorithm.fields(), self.layout)

    @property
    def state_width(self) -> int:
        """Values that a client keeps from round to round."""
        mine = client_vectors(self.job.experiment, self.algorithm)
        return StateLayout((*mine, *self.aggregation.client_state())).width

    @property
    def wire_down(self) -> int:
        """Bytes that a federation would send to a client beside a model that a stage encodes: as `transport_down`,
        without padding, or what the algorithm has in place of the model."""
        if (values := self.algorithm.values_down) is not None:
            return _FLOAT32 * (values + self._shared.of_stages)
        model = 0 if self.aggregation.sends_model else self.layout.values(self.layout.size)
        return _FLOAT32 * (model + self._shared.values)

    @property
    def most_down(self) -> int:
        """The most bytes that a federation would send to a client before it trains: those of a client that has never
        taken part, who is sent the whole model."""
        whole = self.layout.values(self.layout.size) if self.aggregation.sends_model else 0
        return self.wire_down + _FLOAT32 * whole

    @property
    def shared_values(self) -> int:
        """Values of what clients may read of the server's state."""
        return self._shared.values

    @property
    def transport_down(self) -> int:
        """Bytes of what travels to a worker in a round: the model, and what clients may read of the server's state."""
        return _FLOAT32 * (self.layout.size + self._shared.values)

    @property
    def _shared(self) -> SharedVectors:
        return SharedVectors(self.algorithm, self.aggregation, self.layout)


def actor_memory(job: Job, skeleton: Skeleton | None = None) -> ActorMemory:
    """Estimate what one client actor of a job needs.

    Args:
        skeleton: of the job, or of one with another engine, where there is one already.

    Raises:
        DataError, ModelError: the job's data or model cannot be used.
    """
    federation, skeleton = job.federation.open(), skeleton or Skeleton.of(job)
    layout, algorithm = skeleton.layout, skeleton.algorithm
    rows, columns, trainable = job.engine.rows, layout.size, layout.trainable
    cuda = job.engine.device == "cuda"
    # On the worker: the broadcast and the evaluator's model once; for each row the weights, the update that is sent,
    # what the algorithm computes in, and the gradients as autograd returns them and as the trainer takes them. A GPU
    # has the broadcast in the host's memory as well, on its way.
    # What clients may read of the server's state is there once as well.
    vectors = (
        (2 + cuda) * columns + skeleton.shared_values + rows * ((2 + algorithm.matrices) * columns + 2 * trainable)
    )
    if (
        skeleton.program.alternates
    ):  # gradients that stay while others are found, and rows while some are found elsewhere
        vectors += rows * (trainable + columns)
    if skeleton.program.full_gradient:  # the rows meanwhile, a sum, and what is returned
        vectors += rows * (columns + 2 * trainable)
    if job.experiment.client.privacy is not None:  # gradients of samples, clipped and not
        samples = algorithm.work(job.experiment.client).poisson if job.engine.name == "rows" else 1
        vectors += 2 * rows * (samples or 1) * trainable
    if job.experiment.evaluation.fine_tune is not None:  # models before and after, and an engine without compiled steps
        vectors += rows * (2 * columns + (columns + trainable if job.engine.compiled else 0))
    # Buffers beside the rows: the engine's, their first values, the evaluator's.
    model, base = _FLOAT32 * vectors + skeleton.frozen + 3 * skeleton.kept, mapped_bytes(job, skeleton.frozen)
    # Modules are made from the first values, which an actor has from the object store, or forgets.
    inprocess = job.experiment.execution.executor == "inprocess"
    first = _FLOAT32 * columns + skeleton.kept if inprocess else 0
    optimizer = _optimizer_bytes(job, algorithm, rows, trainable)
    cohort = cohort_size(job.experiment, federation.population)
    sums = skeleton.aggregation.rule.worker_bytes(math.ceil(cohort / _workers(job)))
    shard = _shard_bytes(job, federation)
    state = _state_bytes(skeleton.state_width, rows, cohort)
    sets = _sets_bytes(federation)
    return ActorMemory(
        process=ACTOR_BYTES,
        model=model + first - base,
        optimizer=optimizer,
        sums=sums,
        shard=shard,
        state=state,
        sets=sets,
        base=base,
        gpu=CUDA_CONTEXT + model + optimizer + sums + shard + state + sets if cuda else 0,
    )


def mapped_bytes(job: Job, frozen: int) -> int:
    """How much of this many bytes of frozen parameters the actors of a node map from one file."""
    return frozen if job.experiment.execution.executor == "ray" and frozen >= MAPPED_FROM else 0


def gpu_fraction(num_gpus: float, gpu_memory: int) -> float:
    """Share of a GPU's memory that torch may take in an actor: the actor's own, less what CUDA takes beside torch."""
    return max(0.01, min(num_gpus, 1.0) - CUDA_CONTEXT / gpu_memory)


def _workers(job: Job) -> int:
    """Actors that a cohort is expected to be cut over."""
    actors = job.experiment.execution.actors
    return max(1, int(cores())) if actors == "auto" else actors


def _state_bytes(width: int, rows: int, cohort: int) -> int:
    """Of a block on the device, and of a lease's rows as they come and as they go."""
    row = _FLOAT32 * width
    return rows * row + 2 * min(cohort * row, max(row, LEASE_STATE_BYTES))


def _optimizer_bytes(job: Job, algorithm: Algorithm, rows: int, trainable: int) -> int:
    optimizer = local_optimizer(job.experiment, algorithm)
    return 0 if optimizer is None else _FLOAT32 * optimizer.values(rows, trainable)


def _shard_bytes(job: Job, federation: Federation) -> int:
    """As `DeviceShards` holds them: of all clients that it may be given, as far as `execution.shard_memory` goes."""
    execution, sizes = job.experiment.execution, federation.sizes("train")
    largest = int(np.argmax(sizes))
    shard = federation.shard(largest)
    nbytes = shard.x.nbytes + shard.y.nbytes + (0 if shard.weight is None else shard.weight.nbytes)
    per_actor = execution.clients_per_actor
    samples = int(sizes.sum()) if per_actor is None else per_actor * int(sizes[largest])
    kept = min(execution.shard_memory, nbytes * samples // max(1, int(sizes[largest])))
    return max(job.engine.rows * nbytes, kept)


def _sets_bytes(federation: Federation) -> int:
    """Of the validation and the test set, as far as an evaluator keeps them: it may be given all of their ranges."""
    sets = [federation.server("validation"), federation.server("test")]
    return min(RESIDENT_BYTES, sum(_set_bytes(one, federation.info) for one in sets if one is not None and len(one)))


def _set_bytes(samples: Samples, info: DataInfo) -> int:
    one = Shard.load(samples.slice(0, 1), torch.device("cpu"))
    tensors = (model_input(one.x, info), target(one.y, info), one.weight)
    return len(samples) * sum(tensor.nbytes for tensor in tensors if tensor is not None)
