"""What a client does in a round, put together from the experiment and its algorithm."""

from __future__ import annotations

from raysim.algorithms import Algorithm
from raysim.data import DataInfo
from raysim.rounds.job import Job
from raysim.training import Engine, LocalUpdate, Resampling, Trainer, row_optimizer


def local_update(job: Job, algorithm: Algorithm) -> LocalUpdate:
    """What a local step does with gradients."""
    client = job.experiment.client
    config = algorithm.local_optimizer(client)
    optimizer = None if config is None else row_optimizer(config)
    return LocalUpdate(optimizer, client.clip_norm, algorithm, algorithm.takes_steps, algorithm.sees_gradients)


def local_trainer(job: Job, algorithm: Algorithm, engine: Engine, update: LocalUpdate, info: DataInfo) -> Trainer:
    """Who trains clients on an engine that was built for this update."""
    client = job.experiment.client
    return Trainer(
        engine,
        update.optimizer,
        algorithm.work(client),
        update.clip_norm,
        algorithm,
        algorithm.sees_gradients,
        start=algorithm.start,
        anchored=algorithm.needs_anchor,
        turns=algorithm.turns,
        stepwise=algorithm.stepwise,
        referenced=algorithm.needs_reference,
        peers=algorithm.peers,
        solver=algorithm.solve if algorithm.solves else None,
        local_step=algorithm.local_step if algorithm.takes_steps else None,
        scratch=algorithm.scratch,
        resampling=Resampling.of(client.resampling, info),
    )
