"""An algorithm's own program, run on clients of a round to be timed: with a learning rate of zero, nothing is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from raysim.aggregation import Buffers, Field, build_rule
from raysim.algorithms import Algorithm
from raysim.arrays import Int64
from raysim.data import Federation
from raysim.execution.clients.local_training import client_vectors, local_trainer, local_update, saving
from raysim.execution.clients.loss_contexts import LossContexts
from raysim.execution.clients.state import StateLayout
from raysim.rounds.job import Job
from raysim.training import (
    BlockInputs,
    CannotCapture,
    Clients,
    Engine,
    EngineChoice,
    Evaluator,
    ExamplePrivacy,
    LocalUpdate,
    ParameterLayout,
    RoundSetting,
    Shard,
    Shards,
    build_engine,
    evaluated_metrics,
    resolve_client_loss,
    resolve_loss,
    to_device,
)
from raysim.user_code import passes

_NO_ROUND = 0
"""The round that the program is told: none of the run's."""


def build(job: Job, algorithm: Algorithm, choice: EngineChoice) -> tuple[Engine, LocalUpdate]:
    """An engine for the job, and what it was built to do with gradients.

    Raises:
        CannotCapture: the model, or the work, is not for this engine; says why.
    """
    info = job.federation.open().info
    module = job.build_module(info, choice.torch_device)
    loss = resolve_client_loss(job.experiment.training, info, job.handed)
    work, features = algorithm.work(job.experiment.client), algorithm.feature_loss()
    update, saved = local_update(job, algorithm, compiled=choice.compiled), saving(job.experiment)
    layout, privacy = ParameterLayout(module), ExamplePrivacy.of(job.experiment.client)
    return build_engine(choice, module, layout, loss, info, work, update, features, saved, privacy), update


class ProgramRun:
    """Runs the program of an algorithm on an engine, as a worker does.

    Attributes:
        engine: that it runs on.
    """

    def __init__(self, job: Job, federation: Federation, algorithm: Algorithm, choice: EngineChoice) -> None:
        """Build the engine.

        Raises:
            CannotCapture: the engine cannot do it.
        """
        self.engine, update = build(job, algorithm, choice)
        self._job, self._federation, self._device = job, federation, choice.torch_device
        self._trainer = local_trainer(job, algorithm, self.engine, update, federation.info)
        self._states, self._broadcast = (
            StateLayout(client_vectors(job.experiment, algorithm)),
            self.engine.rows[0].clone(),
        )
        first = algorithm.init(self._broadcast.cpu().numpy()) if algorithm.broadcast_state else {}
        self._server = {
            name: to_device(first[name].astype(np.float32), self._device) for name in algorithm.broadcast_state
        }
        loss = resolve_client_loss(job.experiment.training, federation.info, job.handed)
        self._contexts = LossContexts(loss, federation, self._device)
        self._evaluator: Evaluator | None = None
        self._rule, self._buffers = build_rule(job.experiment.aggregation, algorithm.fields()), Buffers()

    def steps(self, clients: Int64, most: int) -> int:
        """Local steps that each of these clients has, in at most this many batches."""
        work = self._trainer.work
        return int(np.minimum(work.count(self._federation.sizes("train", clients)), most * work.repeats).min())

    def block(self, clients: Int64, most: int) -> Callable[[], None]:
        """A call that trains these clients, for as many steps as each of them has, in at most this many batches.

        It has run once. Where the program fails on them, plain local steps take its place: the run itself will name the
        client.

        Raises:
            CannotCapture, torch.OutOfMemoryError: the engine cannot do it.
        """
        shards = {c: Shard.load(self._federation.shard(c), self._device) for c in set(clients.tolist())}
        joined = Shards.join([shards[c] for c in clients.tolist()])
        state = self._states.first(self._broadcast).repeat(len(clients), 1)
        inputs = BlockInputs(
            steps=np.full(len(clients), self.steps(clients, most)),
            server=self._server,
            state=self._states.views(state),
            context=self._contexts.of(clients),
            losses=partial(self._losses, clients),
        )
        setting = RoundSetting(self._job.experiment.seed, _NO_ROUND, 0.0, self._job.experiment.client.optimizer)

        positions, weights = np.arange(len(clients)), np.full(len(clients), 1 / len(clients))

        def train() -> None:
            sent = self._trainer.train(setting, self._broadcast, clients, joined, inputs).sent
            if sent:
                self._rule.accumulator(_NO_ROUND, self._device, self._buffers, _unnamed).fold(positions, weights, sent)

        try:
            train()
        except (CannotCapture, torch.OutOfMemoryError):
            raise
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and passes(error):
                raise
            self._trainer = replace(self._trainer, local=_plain)
            train()
        return train

    def _losses(self, clients: Int64, models: Sequence[Tensor]) -> Tensor:
        job, info = self._job, self._federation.info
        if self._evaluator is None:
            module, evaluation = job.build_module(info, self._device), job.experiment.evaluation
            loss = resolve_loss(job.experiment.training, info, job.handed)
            layout = ParameterLayout(module)
            metrics = evaluated_metrics(job.experiment, info, job.handed)
            self._evaluator = Evaluator(module, layout, loss, metrics, info, self._device, evaluation.batch_size)
        found = np.ones((len(clients), len(models)))
        for j, model in enumerate(models):
            self._evaluator.load(model)
            for i, client in enumerate(clients.tolist()):
                found[i, j] = self._evaluator.mean_loss(self._federation.shard(client))
        return to_device(found, self._device)


def _unnamed(field: Field, column: int) -> str:
    return ""


def _plain(c: Clients) -> Mapping[str, Tensor]:
    c.descend()
    return {}
