"""What a run would take, before anything starts: memory of an actor, leases and bytes of a round, who goes where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from raysim.aggregation import Field, sum_fields
from raysim.algorithms import Algorithm, build_algorithm
from raysim.config import Experiment
from raysim.data import Federation
from raysim.execution.cohort import cohort_size, draw_round
from raysim.execution.engine_choice import time_step
from raysim.execution.evaluation import EvaluationPlan
from raysim.execution.placement import ACTOR_BYTES, Node, Placement, place
from raysim.execution.preparation import Prepared
from raysim.execution.round_costs import RoundCosts, rounds_ahead
from raysim.execution.scheduling import CostModel, schedule, schedule_by_owner
from raysim.execution.upcoming import Upcoming
from raysim.execution.work import Float64, Int64, Job, RoundWork
from raysim.models import model_on_meta
from raysim.training import ParameterLayout, row_optimizer

_FLOAT32, _WEIGHT = 4, 8


@dataclass(frozen=True, slots=True)
class ActorMemory:
    """Estimated bytes of one client actor. What a model's own activations take is not known, and not counted.

    Attributes:
        process: a Python process with torch.
        model: the broadcast, the rows that train, their gradients and updates, the evaluator's model.
        optimizer: the local optimiser's state.
        sums: the running partial sum.
        shard: the largest client's samples.
    """

    process: int
    model: int
    optimizer: int
    sums: int
    shard: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.process + self.model + self.optimizer + self.sums + self.shard


@dataclass(frozen=True, slots=True)
class RoundPlan:
    """The first round as the scheduler sees it, before any of its clients has trained.

    Attributes:
        a_step: seconds of a client's local step.
        timed: whether that was measured here, or is a guess.
        cohort: clients; their expected number for Poisson sampling.
        steps: fewest, median and most local steps of a client, over the whole population.
        leases: lists of clients handed out.
        workers: workers that the round is cut over, if it is.
        imbalance: the busiest actor's estimated work over the mean of the actors that have any; 1 is perfect.
        alone: predicted seconds of the round on one worker, evaluation included.
        shared: predicted seconds cut over the workers, messages included.
        batch: rounds that go to one worker in a call, as far as these predictions hold; 0 where they are shared.
        bytes_down: the model, float32, once for each lease.
        bytes_up: the partial sums, int64 (float32 where sums are not exact), one for each lease.
    """

    a_step: float
    timed: bool
    cohort: int
    steps: tuple[int, float, int]
    leases: int
    workers: int
    imbalance: float
    alone: float
    shared: float
    batch: int
    bytes_down: int
    bytes_up: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run would take.

    Attributes:
        nodes: the machines, the driver's own first.
        placement: where actors go; None where the run stays in process.
    """

    nodes: tuple[Node, ...]
    placement: Placement | None
    memory: ActorMemory
    round: RoundPlan


def make_plan(prepared: Prepared, nodes: Sequence[Node]) -> Plan:
    """Plan a prepared experiment on these nodes.

    Raises:
        PlacementError: the actors can never be placed; says what is short and what to change.
    """
    experiment, federation = prepared.experiment, prepared.federation
    memory = actor_memory(prepared.job)
    placement = None
    if experiment.execution.executor == "ray":
        placement = place(
            nodes,
            experiment.execution,
            population=federation.population,
            cohort=cohort_size(experiment, federation.population),
            actor_bytes=memory.total,
        )
    return Plan(
        tuple(nodes), placement, memory, plan_round(_timed(prepared), 1 if placement is None else placement.actors)
    )


def _timed(prepared: Prepared) -> Prepared:
    """With the seconds of a local step, which are known already where the engine was chosen by them."""
    if prepared.engine.a_step is not None:
        return prepared
    job, federation = prepared.job, prepared.federation
    task = draw_round(prepared.experiment, federation, prepared.work, 1)
    a_step = time_step(job, federation, _model(job, federation)[1], task)
    return replace(prepared, engine=replace(prepared.engine, a_step=a_step))


def model_columns(job: Job) -> int:
    """Columns P of a job's model vector."""
    return _model(job, job.federation.open())[0].size


def actor_memory(job: Job) -> ActorMemory:
    """Estimate what one client actor of a job needs.

    Raises:
        DataError, ModelError: the job's data or model cannot be used.
    """
    federation = job.federation.open()
    layout, algorithm, frozen = _model(job, federation)
    rows, columns, trainable = job.engine.rows, layout.size, layout.trainable
    # On the worker: the broadcast and the evaluator's model once; for each row the weights, the update that is sent,
    # and the gradients as autograd returns them and as the trainer takes them. A GPU has a second broadcast.
    vectors = (2 + (job.engine.device == "cuda")) * columns + rows * (2 * columns + 2 * trainable)
    return ActorMemory(
        process=ACTOR_BYTES,
        model=_FLOAT32 * vectors + 2 * frozen,
        optimizer=_optimizer_bytes(job, algorithm, rows, trainable),
        sums=sum(field.nbytes for field in _summed(job.experiment, algorithm)),
        shard=rows * _largest_shard(federation),
    )


def plan_round(prepared: Prepared, actors: int) -> RoundPlan:
    """Plan the first round on so many actors (1 where it stays in process)."""
    experiment, federation, work = prepared.experiment, prepared.federation, prepared.work
    _, algorithm, _ = _model(prepared.job, federation)
    task = draw_round(experiment, federation, work, 1)
    measured = prepared.engine.a_step
    model = CostModel() if measured is None else CostModel(per_step=measured)
    cost = model.seconds(task.steps)
    per_actor = experiment.execution.clients_per_actor
    if experiment.execution.executor == "inprocess":
        leases, imbalance = min(1, len(task.clients)), 1.0
    elif per_actor is not None:
        owner = task.clients // per_actor
        leases, imbalance = _busy(schedule_by_owner(owner).first), _imbalance(cost, owner)
    else:
        plan = schedule(cost, actors)
        leases, imbalance = _busy(plan.first) + len(plan.rest), plan.imbalance
    steps = work.count(federation.sizes("train"))
    ranges = EvaluationPlan.of(experiment, federation, prepared.metrics).due(1)
    alone, shared, batch = _rounds_ahead(prepared, RoundCosts(actors, model), RoundWork(task, ranges))
    return RoundPlan(
        a_step=model.per_step,
        timed=measured is not None,
        cohort=cohort_size(experiment, federation.population),
        steps=(int(steps.min()), float(np.median(steps)), int(steps.max())),
        leases=leases,
        workers=min(leases, actors),
        imbalance=imbalance,
        alone=alone,
        shared=shared,
        batch=batch,
        bytes_down=leases * _FLOAT32 * prepared.columns,
        # A partial sum also names its clients, by 32-bit positions, and carries the sum of their weights.
        bytes_up=leases * (_WEIGHT + sum(field.nbytes for field in _summed(experiment, algorithm)))
        + 4 * len(task.clients),
    )


def _rounds_ahead(prepared: Prepared, costs: RoundCosts, work: RoundWork) -> tuple[float, float, int]:
    """Seconds on one worker and shared, and the rounds of a call, if later rounds are like this one."""
    execution, every = prepared.experiment.execution, prepared.experiment.tracking.checkpoint_every
    alone, shared = costs.alone(work), costs.shared(work)
    ahead = rounds_ahead(execution)
    if execution.executor == "inprocess" or execution.clients_per_actor is not None or not ahead or alone > shared:
        return alone, shared, 0
    like_it = (
        replace(work, kept=bool(every) and number == every) for number in range(1, prepared.experiment.rounds + 1)
    )
    return alone, shared, len(costs.cut(Upcoming(like_it, ahead), prepared.columns))


def _model(job: Job, federation: Federation) -> tuple[ParameterLayout, Algorithm, int]:
    """The layout, the algorithm on it, and the bytes of what is in the module but not in the layout."""
    experiment = job.experiment
    module = model_on_meta(experiment.model, federation.info, loss=experiment.training.loss, module=job.module)
    layout = ParameterLayout(module)
    inside = {segment.name for segment in layout.segments}
    tensors = [*module.named_parameters(), *module.named_buffers()]
    frozen = sum(tensor.nbytes for name, tensor in tensors if name not in inside)
    return layout, build_algorithm(experiment.algorithm, layout), frozen


def _summed(experiment: Experiment, algorithm: Algorithm) -> tuple[Field, ...]:
    return sum_fields(algorithm.fields(), exact=experiment.aggregation.exact)


def _optimizer_bytes(job: Job, algorithm: Algorithm, rows: int, trainable: int) -> int:
    config = algorithm.local_optimizer(job.experiment.client)
    if config is None:
        return 0
    optimizer = row_optimizer(config)
    optimizer.start(torch.empty((rows, trainable), device="meta"))
    return sum(state.nbytes for state in vars(optimizer).values() if isinstance(state, Tensor))


def _largest_shard(federation: Federation) -> int:
    shard = federation.shard(int(np.argmax(federation.sizes("train"))))
    return shard.x.nbytes + shard.y.nbytes + (0 if shard.weight is None else shard.weight.nbytes)


def _busy(first: Sequence[Int64]) -> int:
    return sum(len(positions) > 0 for positions in first)


def _imbalance(cost: Float64, owner: Int64) -> float:
    """As `Schedule.imbalance`, where every client has an actor of its own."""
    _, index = np.unique(owner, return_inverse=True)
    loads = np.bincount(index, weights=cost)
    return float(loads.max() / loads.mean()) if loads.any() else 1.0
