"""From an experiment to a job: data built, model checked against them, every automatic choice made once, here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from raysim.aggregation import Aggregation, Setting, build_aggregation
from raysim.algorithms import Adapters, build_algorithm
from raysim.config import Experiment
from raysim.config.algorithms import CentralisedConfig
from raysim.config.balance import EqualClassesConfig
from raysim.config.sources import InMemoryConfig
from raysim.config.systems import SystemsConfig
from raysim.data import DataInfo, Federation, FederationSpec, PooledSpec
from raysim.data.build import Tell, prepare, say_nothing
from raysim.data.sources import load_source
from raysim.errors import ConfigError, ModelError
from raysim.evaluation.fairness import LocalBaseline
from raysim.evaluation.ranges import EvaluationPlan
from raysim.execution.clients.holdouts import with_fine_tuning
from raysim.execution.clients.local_training import check_client
from raysim.execution.clients.loss_contexts import LossContexts
from raysim.execution.placement.census import census
from raysim.execution.placement.memory import Skeleton
from raysim.execution.preparation.asynchrony import check_asynchronous
from raysim.execution.preparation.concrete import fit_algorithm, with_engine, with_handed_over
from raysim.execution.preparation.engine_choice import ChosenEngine, choose_engine
from raysim.execution.preparation.foresight import check_batches, idle_rounds
from raysim.execution.preparation.privacy import check_stopping, plan_privacy
from raysim.execution.preparation.private_samples import check_private_samples
from raysim.execution.preparation.prompts import Prompts
from raysim.execution.preparation.timetable import build_timetable, check_wire_budget, last_step, most_down
from raysim.models import Calling, OutputShape, check_fit, model_on_meta
from raysim.privacy import PrivacyPlan
from raysim.privacy.correlated import with_matrices
from raysim.rounds.job import Job
from raysim.selection import Selection, build_selection
from raysim.selection.cohort import check_weights, cohort_size, draw_first, expected_weight
from raysim.selection.oort import Oort
from raysim.systems import FleetTimetable, Rounds, recorded_names
from raysim.training import (
    NOTHING,
    EngineChoice,
    HandedOver,
    LengthGroups,
    LocalWork,
    Metric,
    ParameterLayout,
    Resampling,
    check_loss,
    check_metrics,
    evaluated_metrics,
    resolve_client_loss,
    resolve_loss,
)
from raysim.training.handed import HANDED_OVER, refuse_batch_loss
from raysim.training.losses import Loss
from raysim.training.model_loss import ModelLoss
from raysim.training.recomputing import recomputed
from raysim.user_code import user_code


@dataclass(frozen=True, slots=True)
class Prepared:
    """A job, and what the driver keeps of it.

    Attributes:
        experiment: resolved: nothing in it is automatic any more.
        federation: the driver's own view of the data.
        metrics: what is evaluated.
        work: what a client does in a round.
        selection: chooses the cohorts.
        parameters: trainable values.
        columns: P, the length of a model as it travels.
        engine: how clients are trained, and why so.
        aggregation: how their records become one.
        recorded: names of what the algorithm records of a step of the server.
        adapters: how products of adapters reach the server, and why so; None where there are none.
        links: who sends to whom, where clients do not all send to one server.
        local: what clients reach alone, where `evaluation.local_baseline` says.
        warning: what is worth knowing before the first round.
        prompts: that the model writes behind; None where it writes nothing.
        privacy: what the noise of stages is worth; None where there is none.
        timetable: plans the server's steps, in place of the selection; None where rounds wait for their cohorts, and
            no clock runs.
        last_in_time: the last round that a budget of virtual time allows, or that there is.
    """

    experiment: Experiment
    job: Job
    federation: Federation
    metrics: tuple[Metric, ...]
    work: LocalWork
    selection: Selection
    parameters: int
    columns: int
    engine: ChosenEngine
    aggregation: Aggregation
    recorded: tuple[str, ...] = ()
    adapters: str | None = None
    links: str | None = None
    local: LocalBaseline | None = None
    warning: str | None = None
    prompts: Prompts | None = None
    privacy: PrivacyPlan | None = None
    timetable: FleetTimetable | None = None
    last_in_time: int | None = None

    @property
    def last_round(self) -> int:
        """The last round of the run."""
        budgets = (self.last_in_time, None if self.privacy is None else self.privacy.last)
        return min((one for one in budgets if one is not None), default=self.experiment.rounds)

    @property
    def ending(self) -> str:
        """Why a run is over after its last round, where more were asked for."""
        if self.privacy is not None and self.last_round == self.privacy.last:
            return self.privacy.ending
        return f"{self.experiment.stop.virtual_seconds:g} virtual seconds are over"

    @property
    def virtual(self) -> tuple[str, ...]:
        """Names of what is recorded of virtual time."""
        return () if self.timetable is None else recorded_names(self.timetable)

    @property
    def info(self) -> DataInfo:
        """What a sample looks like."""
        return self.federation.info


def prepare_job(
    experiment: Experiment,
    *,
    model: nn.Module | None = None,
    data: Any = None,
    handed: HandedOver = NOTHING,
    tell: Tell = say_nothing,
) -> Prepared:
    """Build the data and check everything that can be checked before a worker starts.

    Args:
        experiment: what to run.
        model: a module of the user's own; it is not changed.
        data: arrays or datasets of the user's own (see `raysim.data.prepare`).
        handed: a loss and metrics of the user's own.
        tell: told what is about to be done, where that may take seconds.

    Raises:
        ConfigError, DataError, ModelError, UserCodeError: one line each.
    """
    if model is not None and not isinstance(model, nn.Module):
        raise ModelError(f"model: expected a torch.nn.Module, got {_described(model)}")
    if handed.loss is not None:
        values = experiment.to_dict()
        values["training"]["loss"] = HANDED_OVER
        experiment = Experiment.parse(values)
    if data is not None:  # once: a dataset may be slow to read, or draw its samples anew
        data = load_source(InMemoryConfig(), seed=experiment.data_seed, arrays=data, task=experiment.training.task)
    experiment = with_handed_over(experiment, model, data)
    targets = experiment.training.task
    spec: FederationSpec = prepare(experiment.data, experiment.data_seed, arrays=data, task=targets, tell=tell)
    if isinstance(experiment.algorithm, CentralisedConfig):
        spec = PooledSpec(spec)
    federation = spec.open()
    experiment = fit_algorithm(experiment, federation)
    experiment = with_matrices(experiment, federation.population, cohort_size(experiment, federation.population))
    check_weights(experiment.aggregation.weights, federation)
    local = LocalBaseline.of(experiment, federation)
    info, loss = federation.info, experiment.training.loss
    loss_function = resolve_loss(experiment.training, info, handed)
    client_loss = resolve_client_loss(experiment.training, info, handed)
    LossContexts(client_loss, federation, torch.device("cpu"))  # finds out whether labels have been counted
    Resampling.of(experiment.client.resampling, info)
    LengthGroups.of(experiment.client.buckets, info)
    prompts = Prompts.of(experiment, info)
    meta = model_on_meta(experiment.model, info, loss=loss, module=model, versions=experiment.algorithm.versions)
    called = None if model is not None else experiment.model.name
    output_shape = check_fit(meta, info, loss, name=called, auxiliary=experiment.training.auxiliary)
    metrics = evaluated_metrics(experiment, info, handed)
    _check_own_loss(experiment, loss_function, meta, output_shape, federation)
    check_metrics(metrics, loss_function, output_shape, info)
    recomputed(meta, experiment.training.checkpointing)
    Calling.of(meta, info, cut=experiment.client.buckets is not None, auxiliary=experiment.training.auxiliary)
    layout = ParameterLayout(meta)
    algorithm = build_algorithm(experiment.algorithm, layout)
    algorithm.check(experiment)
    check_client(experiment, algorithm)
    experiment = with_fine_tuning(experiment, algorithm, layout, federation)
    check_private_samples(experiment, algorithm, meta, info)
    aggregation = build_aggregation(experiment.aggregation, algorithm.fields(), layout)
    if aggregation.sends_model and algorithm.values_down is not None:
        raise ConfigError(f"aggregation.stages: {experiment.algorithm.name} sends clients no model; remove downlink")
    check_asynchronous(experiment, algorithm, aggregation)
    clients = cohort_size(experiment, federation.population)
    weight = expected_weight(experiment, federation) if aggregation.fixed else 1.0
    aggregation.check_run(Setting(experiment, federation.population, clients, weight))
    aggregation.rule.check(clients=clients, validation=federation.server("validation") is not None)
    execution = experiment.execution
    device: Literal["cpu", "cuda"] = "cuda" if execution.device == "cuda" else "cpu"
    if device == "cuda" and execution.executor == "inprocess" and not torch.cuda.is_available():
        raise ConfigError("execution.device: this process sees no GPU; set execution.device=cpu and num_gpus=0")
    precision, threads = experiment.training.precision, execution.threads_per_client
    engine = EngineChoice("sequential", precision=precision, device=device, threads=threads)
    work = algorithm.work(experiment.client)
    releases = experiment, aggregation, federation, clients, work.rounds
    privacy = None if experiment.systems.asynchronous else plan_privacy(*releases)
    evaluated = EvaluationPlan.of(experiment, federation, metrics).names
    measured = ["train/loss", *evaluated, *aggregation.metrics, *algorithm.recorded]
    selection = build_selection(experiment, federation, work)
    if execution.classes:
        census(execution, federation, work, device)  # what is wrong with them is found out before anything starts
    check_batches(meta, experiment, federation, algorithm)
    warning = idle_rounds(experiment, federation)
    task = draw_first(experiment, federation, work)
    with user_code("training.engine: trying the engines on clients of the first round"):
        chosen = choose_engine(Job(experiment, spec, engine, model, handed), federation, algorithm, task, tell=tell)
    experiment = with_engine(experiment, chosen.engine)
    job = Job(experiment, spec, chosen.engine, model, handed)
    timetable = None
    if experiment.systems != SystemsConfig() or experiment.stop.wire_bytes is not None:
        down = most_down(Skeleton.of(job), federation.population)
        timetable = build_timetable(experiment, federation, work, selection, aggregation, down, privacy)
        if isinstance(selection, Oort) and isinstance(timetable, Rounds):
            selection = selection.on(timetable)
        if experiment.systems.asynchronous:
            privacy = plan_privacy(*releases, timetable)
        check_wire_budget(experiment, aggregation, clients, down)
    if privacy is not None:
        check_stopping(experiment, measured)
    counts = layout.count, layout.size
    adapters = algorithm.why if isinstance(algorithm, Adapters) and algorithm.products is not None else None
    return Prepared(
        experiment, job, federation, metrics, work, selection, *counts, chosen, aggregation, algorithm.recorded,
        adapters, algorithm.links, local, warning, prompts, privacy, timetable, last_step(experiment, timetable),
    )  # fmt: skip


def _check_own_loss(
    experiment: Experiment, loss: Loss, model: nn.Module, output_shape: OutputShape, federation: Federation
) -> None:
    """Refuse a loss of the user's own that fails, and one of whole batches where something wants one a sample."""
    training, info = experiment.training, federation.info
    if not training.own_loss:
        return
    if isinstance(loss, ModelLoss):
        loss.check(model)
    elif not check_loss(loss, output_shape, info, name=training.loss):
        return
    sets = [federation.shard(client) for client in np.flatnonzero(federation.sizes())[:1].tolist()]
    sets += [one for one in (federation.server("validation"), federation.server("test")) if one is not None]
    wanted = {
        "samples have weights": any(one.weight is not None for one in sets),
        "training.class_weights weighs samples": not isinstance(training.class_weights, EqualClassesConfig),
        "training.engine: rows fills batches up": training.engine == "rows",
    }
    for why in (name for name, found in wanted.items() if found):
        raise refuse_batch_loss(training.loss, why)


def _described(value: object) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}; make an instance of it: model={value.__name__}(…)"
    return f"{type(value).__name__}; a model by name goes into the configuration"
