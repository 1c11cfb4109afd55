"""What a client does in a round, put together from the experiment and its algorithm."""

from __future__ import annotations

import numpy as np
import torch

from raysim.algorithms import Algorithm, ClientVector
from raysim.config import Experiment
from raysim.data import DataInfo
from raysim.errors import ConfigError
from raysim.rounds.job import Job
from raysim.training import (
    BlockInputs,
    Engine,
    Heard,
    LengthGroups,
    LocalUpdate,
    Resampling,
    RowOptimizer,
    Saving,
    Trainer,
    VectorSizes,
    clip_of,
    column_rates,
    listen,
    round_rates,
    row_optimizer,
)


def heard(experiment: Experiment, algorithm: Algorithm) -> Heard:
    """What the algorithm's program calls, from a dry run."""
    sizes = vector_sizes(experiment, algorithm)

    def inputs(device: torch.device) -> BlockInputs:
        server = {name: torch.zeros(size, device=device) for name, size in sizes.server.items()}
        state = {name: torch.zeros((2, size), device=device) for name, size in sizes.state.items()}
        return BlockInputs(state=state, server=server)

    work, optimizer = algorithm.work(experiment.client), local_optimizer(experiment, algorithm)
    return listen(algorithm.local, algorithm.layout, work, optimizer, inputs, algorithm.matrices)


def local_optimizer(experiment: Experiment, algorithm: Algorithm) -> RowOptimizer | None:
    """A new local optimiser; None where the algorithm has none."""
    config = algorithm.local_optimizer(experiment.client)
    return None if config is None else row_optimizer(config, column_rates(experiment.client, algorithm.layout))


def client_vectors(experiment: Experiment, algorithm: Algorithm) -> tuple[ClientVector, ...]:
    """What each client keeps from round to round for its own training: of the algorithm, and of the optimiser."""
    optimizer, trainable = local_optimizer(experiment, algorithm), algorithm.layout.trainable
    kept = {} if optimizer is None else optimizer.vectors(trainable)
    return (*algorithm.client_state(), *(ClientVector(name, size) for name, size in kept.items()))


def vector_sizes(experiment: Experiment, algorithm: Algorithm) -> VectorSizes:
    """Sizes of the vectors that the algorithm's program is given beside the model."""
    first = algorithm.init(np.zeros(algorithm.layout.size, np.float32)) if algorithm.broadcast_state else {}
    server = {name: len(first[name]) for name in algorithm.broadcast_state}
    return VectorSizes(server, {one.name: one.size for one in client_vectors(experiment, algorithm)})


def check_client(experiment: Experiment, algorithm: Algorithm) -> None:
    """Refuse what the `client` section asks for and the algorithm, or the model, has not.

    Raises:
        ConfigError: names the key and the remedy.
    """
    client, name = experiment.client, experiment.algorithm.name
    own = column_rates(client, algorithm.layout) is not None
    clip_of(client, algorithm.layout)
    round_rates(experiment, algorithm.work(client), 1)
    moves = algorithm.local_optimizer(client) is not None
    if own and not moves:
        raise ConfigError(
            f"client.groups: {name} does not move weights by client.optimizer; leave out lr_scale and weight_decay"
        )
    if client.optimizer.state == "keep" and not moves:
        raise ConfigError(f"client.optimizer.state: {name} has no local optimiser; set it to reset")
    if client.optimizer.state == "keep" and (passes := heard(experiment, algorithm).passes) > 1:
        raise ConfigError(
            f"client.optimizer.state: {name} trains {passes} times in a round, each time anew; set it to reset"
        )


def local_update(job: Job, algorithm: Algorithm, *, compiled: bool) -> LocalUpdate:
    """What local steps do with gradients; what they correct them with is found out where steps are compiled."""
    experiment = job.experiment
    optimizer, clip_norm = local_optimizer(experiment, algorithm), clip_of(experiment.client, algorithm.layout)
    if not compiled:
        return LocalUpdate(optimizer, clip_norm)
    found, sizes = heard(experiment, algorithm), vector_sizes(experiment, algorithm)
    return LocalUpdate(optimizer, clip_norm, tuple(found.corrections), found.plain, sizes)


def saving(experiment: Experiment) -> Saving:
    """Memory that training saves at the price of time."""
    client = experiment.client
    return Saving(client.accumulation, experiment.training.checkpointing, client.buckets is not None)


def local_trainer(job: Job, algorithm: Algorithm, engine: Engine, update: LocalUpdate, info: DataInfo) -> Trainer:
    """Trains clients on an engine that was built for this update."""
    client = job.experiment.client
    return Trainer(
        engine,
        update.optimizer,
        algorithm.work(client),
        update.clip_norm,
        algorithm.local,
        algorithm.matrices,
        Resampling.of(client.resampling, info),
        LengthGroups.of(client.buckets, info),
        info.tokens,
    )
