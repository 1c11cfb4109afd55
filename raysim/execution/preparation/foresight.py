"""Checks before the first round of what later rounds would meet: it follows from the clients' sizes and weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from torch import nn

from raysim.aggregation import Weighting
from raysim.algorithms import Algorithm
from raysim.arrays import Int64
from raysim.config import Experiment
from raysim.config.algorithms import CentralisedConfig
from raysim.config.base import CustomConfig
from raysim.config.server import ExplicitWeightsConfig, OortConfig, PoissonConfig, PowerOfChoiceConfig
from raysim.data import Federation
from raysim.errors import ConfigError, ModelError
from raysim.evaluation.client_sets import client_sets
from raysim.execution.clients.holdouts import tuning_work
from raysim.execution.clients.local_training import heard
from raysim.models import refusal_of_one
from raysim.selection.cohort import cohort_size
from raysim.training import LocalWork


def check_batches(model: nn.Module, experiment: Experiment, federation: Federation, algorithm: Algorithm) -> None:
    """Refuse batches of one sample for a model that fails on them, and `drop_last` where it has no effect.

    Where `execution.faults.error` is `drop`, clients with such batches are left out of their rounds instead.

    Raises:
        ConfigError: the model cannot train on them; names the clients and the remedy.
        ModelError: the model cannot evaluate them.
    """
    client, work = experiment.client, algorithm.work(experiment.client)
    program = heard(experiment, algorithm)
    if client.drop_last and (program.solves or work.batch_size is None):
        raise ConfigError(f"client.drop_last: {experiment.algorithm.name} has no short batches; remove it")
    if program.solves:
        return
    _check_evaluation(model, experiment, federation)
    if experiment.execution.faults.error == "drop":
        return
    works = [work]
    if program.full_gradient:
        works.append(LocalWork(work.batch_size, drop_last=work.drop_last))
    if experiment.evaluation.fine_tune is not None:
        works.append(tuning_work(experiment, algorithm, experiment.evaluation.fine_tune))
    sizes = federation.sizes("train")
    found = np.flatnonzero(np.logical_or.reduce([one.meets_one(sizes) for one in works]))
    if not len(found) or (reason := _refusal(model, experiment, federation, training=True)) is None:
        return
    first = int(found[0])
    others = f" and {len(found) - 1} of the other {federation.population - 1}" if len(found) > 1 else ""
    batches = "full batches" if work.batch_size is None else f"batches of {work.batch_size}"
    raise ConfigError(
        f"client.batch_size: the model cannot train on a single sample ({reason}), and client {first}{others} would: "
        f"it has {_samples(int(sizes[first]))}, in {batches}; {_remedy(works, sizes)}"
    )


def _check_evaluation(model: nn.Module, experiment: Experiment, federation: Federation) -> None:
    evaluation, size, counts = experiment.evaluation, experiment.evaluation.batch_size, dict[str, Int64]()
    if evaluation.every:
        for part in evaluation.sets:
            if (samples := federation.server(part)) is not None:
                counts[f"the {part} set"] = np.array([len(samples)])
    if evaluation.every if evaluation.clients_every is None else evaluation.clients_every:
        for own in client_sets(experiment, federation):
            counts[f"a client's {own} set"] = federation.sizes(own)
    alone = [name for name, count in counts.items() if np.any((count > 0) & ((count - 1) % size == 0))]
    if alone and (reason := _refusal(model, experiment, federation, training=False)):
        raise ModelError(
            f"the model cannot evaluate a single sample ({reason}), and {alone[0]} would have one in batches of "
            f"{size}; keep the first dimension, the sample's, in its forward pass"
        )


def _refusal(model: nn.Module, experiment: Experiment, federation: Federation, *, training: bool) -> str | None:
    return refusal_of_one(model, federation.info, experiment.training.loss, training=training)


def _samples(count: int) -> str:
    return "1 sample" if count == 1 else f"{count} samples"


def _remedy(works: Sequence[LocalWork], sizes: Int64) -> str:
    if works[0].batch_size == 1:
        return "set it to 2 or more"
    if not any(replace(one, drop_last=True).meets_one(sizes).any() for one in works):
        return "set client.drop_last to true, or client.batch_size to another number"
    return "give every client two samples or more (data.partition.min_size)"


def idle_rounds(experiment: Experiment, federation: Federation) -> str | None:
    """Warns of rounds that keep the model, because all clients drawn for them have no weight; None if none is likely.

    Such a round is no error: its cohort is recorded as empty.
    """
    selection, population = experiment.selection, federation.population
    if isinstance(selection, CustomConfig) or isinstance(experiment.algorithm, CentralisedConfig):
        return None  # cohorts that are not known yet, and the one client that has all samples
    if isinstance(selection, OortConfig | PowerOfChoiceConfig):
        return None  # they choose among clients with samples
    weights = experiment.aggregation.weights
    raw = Weighting(weights).raw(np.arange(population), federation.sizes("train"))
    idle, size = int(np.count_nonzero(raw == 0)), cohort_size(experiment, population)
    if not idle:
        return None
    if isinstance(selection, PoissonConfig):
        chance = (1 - size / population) ** (population - idle)
    else:
        chance = float(np.prod(np.maximum(idle - np.arange(size), 0) / (population - np.arange(size))))
    count = round(chance * experiment.rounds)
    if not count:
        return None
    what, remedy = "no training samples", "set data.partition.allow_empty to false"
    if isinstance(weights, ExplicitWeightsConfig) and np.count_nonzero(federation.sizes("train") == 0) < idle:
        what, remedy = "no weight", "set aggregation.weights.default above 0"
    return (
        f"{idle:,} of {population:,} clients have {what}: about {count:,} of {experiment.rounds:,} rounds draw no "
        f"other client and keep the model; raise cohort, or {remedy}"
    )
