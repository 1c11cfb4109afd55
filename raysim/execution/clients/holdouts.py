"""Clients evaluated on samples of their own, each with the model that it would use, fine-tuned first if that is asked
for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from raysim.algorithms import Algorithm
from raysim.arrays import Bools, Float64, Int64
from raysim.config import Experiment
from raysim.config.client import SgdConfig
from raysim.config.fine_tuning import FineTuneConfig
from raysim.data import Federation
from raysim.errors import ConfigError, RunError
from raysim.evaluation.client_sets import client_sets
from raysim.execution.clients.loss_contexts import LossContexts
from raysim.execution.clients.shards import DeviceShards
from raysim.execution.clients.state import ClientStates, StateLayout
from raysim.execution.scheduling.schedule import even_blocks
from raysim.rounds.job import Job
from raysim.rounds.ranges import Evaluated, NodeRange
from raysim.tracking import ClientSet
from raysim.training import (
    CannotCapture,
    Engine,
    Evaluator,
    FineTuner,
    LocalWork,
    ParameterLayout,
    build_engine,
    resolve_client_loss,
    to_device,
)


@dataclass(frozen=True, slots=True)
class Holdouts:
    """Evaluates clients on their holdouts and on their test samples.

    Attributes:
        tuner: None where models are used as they are.
        sets: what clients are evaluated on.
    """

    federation: Federation
    evaluator: Evaluator
    algorithm: Algorithm
    layout: StateLayout
    shards: DeviceShards
    contexts: LossContexts
    tuner: FineTuner | None
    seed: int
    sets: tuple[ClientSet, ...] = ("holdout",)

    def evaluate(
        self, clients: Int64, broadcast: Tensor, states: ClientStates | None, server: Mapping[str, Tensor]
    ) -> list[Evaluated]:
        """The metrics of each client's own sets, given the broadcast model `[P]`, what clients keep, and what they may
        read of the server's state. A model is made, and tuned, once for all of them."""
        tuner = self.tuner
        size = tuner.capacity if tuner is not None else 1 if self.algorithm.personal else len(clients)
        rows: list[list[Float64]] = [[] for _ in self.sets]
        untuned: list[list[Float64]] = [[] for _ in self.sets]
        for block in even_blocks(len(clients), size):
            some = clients[block]
            models = self._models(some, broadcast, states, server)
            self._values(some, models, rows if tuner is None else untuned)
            if tuner is not None:
                with torch.enable_grad():
                    tuned = tuner.tune(self.seed, some, self.shards.of(some), models, self.contexts.of(some))
                self._values(some, tuned, rows)
        evaluated = []
        for of, after, before in zip(self.sets, rows, untuned, strict=True):
            if after:
                part: Literal["holdout", "client test"] = "holdout" if of == "holdout" else "client test"
                having = clients[self.federation.sizes(of, clients) > 0]
                evaluated.append(Evaluated(part, np.stack(after), having, np.stack(before) if before else None))
        return evaluated

    def of_nodes(
        self, part: NodeRange, broadcast: Tensor, states: ClientStates | None, server: Mapping[str, Tensor]
    ) -> list[Evaluated]:
        """The metrics of the models of nodes on all of the server's set."""
        samples, rows = self.federation.server(part.part), []
        assert samples is not None, f"the driver asks only for sets that exist, not for {part.part!r}"
        for node in part.nodes:
            self.evaluator.load(self._models(np.array([node]), broadcast, states, server)[0])
            rows.append(self.evaluator.values(samples))
        of: Literal["validation of nodes", "test of nodes"] = (
            "test of nodes" if part.part == "test" else "validation of nodes"
        )
        return [Evaluated(of, np.stack(rows), part.nodes)]

    def _models(
        self, clients: Int64, broadcast: Tensor, states: ClientStates | None, server: Mapping[str, Tensor]
    ) -> Tensor:
        """The models `[k, P]` that the clients would use, not yet tuned."""
        models = broadcast[None]
        if self.algorithm.personal and (states is not None or not self.layout.width):
            kept = {} if states is None else self.layout.views(self.layout.taken_up(states, clients, broadcast))
            ids = to_device(clients, broadcast.device)[:, None]
            models = self.algorithm.client_model(broadcast, {"client": ids, **server, **kept})
        return models.expand(len(clients), -1)

    def _values(self, clients: Int64, models: Tensor, rows: list[list[Float64]]) -> None:
        """To the rows of each set, add one for each client that has it."""
        if models.stride(0) == 0:  # one model for all
            self.evaluator.load(models[0])
            for of, of_set in zip(self.sets, rows, strict=True):
                shards = (self.federation.shard(client, of) for client in clients.tolist())
                of_set += self.evaluator.each([samples for samples in shards if len(samples)])
            return
        for client, model in zip(clients.tolist(), models, strict=True):
            self.evaluator.load(model)
            for of, of_set in zip(self.sets, rows, strict=True):
                if len(samples := self.federation.shard(client, of)):
                    of_set.append(self.evaluator.values(samples))


def fine_tuner(job: Job, algorithm: Algorithm, layout: ParameterLayout, engine: Engine) -> FineTuner | None:
    """What tunes models before they are evaluated, if the job has them tuned.

    Args:
        engine: the trainer's. Where it takes whole steps, which are not those of fine-tuning, there will be another.

    Raises:
        RunError: without compiled steps there are no rows on this machine.
    """
    experiment = job.experiment
    config = experiment.evaluation.fine_tune
    if config is None:
        return None
    work = tuning_work(experiment, algorithm, config)
    if job.engine.compiled:
        info = job.federation.open().info
        loss = resolve_client_loss(experiment.training, info, job.handed)
        try:
            module, choice = job.build_module(info, job.engine.torch_device), replace(job.engine, compiled=False)
            engine = build_engine(choice, module, layout, loss, info, work)
        except CannotCapture as reason:
            raise RunError(f"evaluation.fine_tune: {reason}; set training.compile to false") from reason
    lr = experiment.client.optimizer.lr if config.lr is None else config.lr
    return FineTuner(engine, work, lr, experiment.client.clip_norm, _moves(layout, config))


def tuning_work(experiment: Experiment, algorithm: Algorithm, config: FineTuneConfig) -> LocalWork:
    """How much a client does to tune a model: on batches as in training, whose size the engine was built for."""
    training = algorithm.work(experiment.client)
    return LocalWork(training.batch_size, config.epochs, config.steps, drop_last=training.drop_last)


def with_fine_tuning(
    experiment: Experiment, algorithm: Algorithm, layout: ParameterLayout, federation: Federation
) -> Experiment:
    """The experiment with what its algorithm has clients do before they use a model, unless it says so itself.

    Raises:
        ConfigError: it cannot be done, or there is nothing that it could be judged by.
    """
    config, judged = experiment.evaluation.fine_tune, bool(client_sets(experiment, federation))
    if config is None:
        if algorithm.fine_tune is None or not judged:
            return experiment
        values = experiment.to_dict()
        values["evaluation"]["fine_tune"] = algorithm.fine_tune.to_dict()
        return Experiment.parse(values)
    if not judged:
        raise ConfigError(
            "evaluation.fine_tune: clients need a holdout, or test samples of their own, to be judged by; set "
            "data.holdout, e.g. to 0.2"
        )
    if config.lr is None and not isinstance(experiment.client.optimizer, SgdConfig):
        raise ConfigError(
            f"evaluation.fine_tune.lr: set one: fine-tuning takes steps of plain SGD, which client.optimizer.lr, that "
            f"of {experiment.client.optimizer.name}, is not for"
        )
    for pattern in config.layers or ():
        if not layout.matching((pattern,)):
            names = ", ".join(segment.name for segment in layout.segments[:8])
            raise ConfigError(
                f"evaluation.fine_tune.layers: {pattern!r} matches nothing in the model, which has {names}"
            )
    return experiment


def _moves(layout: ParameterLayout, config: FineTuneConfig) -> Bools | None:
    """Which columns `[P]` change; None is all of them."""
    if config.layers is None:
        return None
    moves = np.zeros(layout.size, dtype=bool)
    for segment in layout.matching(config.layers):
        moves[segment.start : segment.start + segment.size] = True
    return moves
