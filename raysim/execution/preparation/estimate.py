"""What a run would take, before anything starts: memory of an actor, leases and bytes of a round, who goes where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from raysim.arrays import Float64, Int64
from raysim.evaluation.ranges import EvaluationPlan
from raysim.execution.placement.census import placer
from raysim.execution.placement.classes import ClientClasses
from raysim.execution.placement.memory import ActorMemory, Skeleton, actor_memory
from raysim.execution.placement.placing import Placement
from raysim.execution.placement.slots import Node
from raysim.execution.preparation.engine_choice import time_step
from raysim.execution.preparation.padding import Padding, padding
from raysim.execution.preparation.prepare import Prepared
from raysim.execution.scheduling.assignment import EligibleWorkers, assign
from raysim.execution.scheduling.round_costs import RoundCosts, rounds_ahead
from raysim.execution.scheduling.schedule import CostModel, schedule_by_owner
from raysim.execution.scheduling.upcoming import Upcoming
from raysim.models import model_on_meta
from raysim.rounds.task import RoundWork
from raysim.selection.cohort import cohort_size, draw_round
from raysim.training import activation_bytes, resolve_loss
from raysim.user_code import user_code

TIMED_BYTES = 2 << 30
"""A model of more bytes is not built for a plan, which then guesses how long a local step takes."""


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
        transport_down: the model, float32, once for each lease.
        transport_up: the partial sums, int64 (float32 where sums are not exact), one for each lease.
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
    transport_down: int
    transport_up: int


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What a run would take.

    Attributes:
        nodes: the machines, the driver's own first.
        placement: where actors go; None where the run stays in process.
        classes: name, clients in the population and share of all local steps, of each class of clients.
        activations: bytes that a client's local step keeps for its backward pass; None where they are not known.
        whole: bytes of the whole model in float32, frozen parameters too.
        padding: what of the texts to classify is padding; None where there are none.
    """

    nodes: tuple[Node, ...]
    placement: Placement | None
    memory: ActorMemory
    round: RoundPlan
    classes: tuple[tuple[str, int, float], ...]
    activations: int | None = None
    whole: int = 0
    padding: Padding | None = None


def make_plan(prepared: Prepared, nodes: Sequence[Node]) -> RunPlan:
    """Plan a prepared experiment on these nodes.

    Raises:
        PlacementError: the actors can never be placed; says what is short and what to change.
    """
    skeleton = Skeleton.of(prepared.job)
    memory = actor_memory(prepared.job, skeleton)
    placement = None
    if prepared.experiment.execution.executor == "ray":
        placement = placer(skeleton, memory, nodes).place(nodes)
    a_round = plan_round(_timed(prepared, skeleton), placement, skeleton)
    kept, whole = _activations(prepared)
    return RunPlan(tuple(nodes), placement, memory, a_round, _classes(prepared), kept, whole, padding(prepared))


def _activations(prepared: Prepared) -> tuple[int | None, int]:
    """Bytes that a local step keeps, and bytes of the whole model."""
    experiment, info = prepared.experiment, prepared.info
    training, client = experiment.training, experiment.client
    model = model_on_meta(
        experiment.model, info, loss=training.loss, module=prepared.job.module, versions=experiment.algorithm.versions
    )
    whole = 4 * sum(one.numel() for one in model.parameters())
    size = prepared.work.batch_size
    if size is None:
        size = int(prepared.federation.sizes("train").max(initial=0))
    kept = activation_bytes(
        model,
        info,
        resolve_loss(training, info, prepared.job.handed),
        -(-size // client.accumulation),
        bf16=training.precision == "bf16",
        checkpointing=training.checkpointing,
    )
    return None if kept is None else kept * prepared.job.engine.rows, whole


def _timed(prepared: Prepared, skeleton: Skeleton) -> Prepared:
    """With the seconds of a local step, which are known already where the engine was chosen by them."""
    if prepared.engine.a_step is not None or skeleton.frozen + 4 * skeleton.columns > TIMED_BYTES:
        return prepared
    job, federation = prepared.job, prepared.federation
    task = draw_round(prepared.experiment, federation, prepared.work, prepared.work.rounds)
    with user_code("timing a local step"):
        a_step = time_step(job, federation, skeleton.algorithm, task)
    return replace(prepared, engine=replace(prepared.engine, a_step=a_step))


def plan_round(prepared: Prepared, placement: Placement | None, skeleton: Skeleton | None = None) -> RoundPlan:
    """Plan the first round on these actors (None where it stays in process)."""
    skeleton = skeleton or Skeleton.of(prepared.job)
    actors = 1 if placement is None else placement.actors
    experiment, federation, work = prepared.experiment, prepared.federation, prepared.work
    task = draw_round(experiment, federation, work, work.rounds)
    measured = prepared.engine.a_step
    model = CostModel() if measured is None else CostModel(per_step=measured)
    cost = model.seconds(task.steps)
    per_actor = experiment.execution.clients_per_actor
    if placement is None:
        leases, imbalance = min(1, len(task.clients)), 1.0
    elif per_actor is not None:
        owner = task.clients // per_actor
        leases, imbalance = _busy(schedule_by_owner(owner).first), _imbalance(cost, owner)
    else:
        samples = federation.sizes("train", task.clients)
        group = ClientClasses(experiment.execution).of(task.clients, samples, task.steps)
        plan = assign(cost, group, _eligible(placement))
        leases, imbalance = len(plan.first) + len(plan.rest), plan.imbalance
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
        transport_down=leases * skeleton.transport_down,
        transport_up=skeleton.aggregation.rule.in_round(task.round).record_bytes(leases, len(task.clients)),
    )


def _rounds_ahead(prepared: Prepared, costs: RoundCosts, work: RoundWork) -> tuple[float, float, int]:
    """Seconds on one worker and shared, and the rounds of a call, if later rounds are like this one."""
    execution, every = prepared.experiment.execution, prepared.experiment.tracking.checkpoint_every
    alone, shared = costs.alone(work), costs.shared(work)
    ahead = rounds_ahead(prepared.experiment)
    whose = execution.executor == "inprocess" or execution.clients_per_actor is not None or execution.classes
    if whose or not ahead or alone > shared:
        return alone, shared, 0
    like_it = (
        replace(work, kept=bool(every) and number == every) for number in range(1, prepared.experiment.rounds + 1)
    )
    return alone, shared, len(costs.cut(Upcoming(like_it, ahead), prepared.columns))


def _eligible(placement: Placement) -> dict[int, EligibleWorkers]:
    eligible: dict[int, EligibleWorkers] = {}
    for group in {seat.group for seat in placement.seats}:
        workers = tuple(worker for worker, seat in enumerate(placement.seats) if seat.group == group)
        eligible[group] = EligibleWorkers(workers, np.ones(len(workers)))
    return eligible


def _classes(prepared: Prepared) -> tuple[tuple[str, int, float], ...]:
    execution, sizes = prepared.experiment.execution, prepared.federation.sizes("train")
    classes = ClientClasses(execution)
    clients, steps = classes.census(sizes, prepared.work.count(sizes))
    total = max(1, int(steps.sum()))
    return tuple(zip(classes.names, clients.tolist(), (steps / total).tolist(), strict=True))


def _busy(first: Sequence[Int64]) -> int:
    return sum(len(positions) > 0 for positions in first)


def _imbalance(cost: Float64, owner: Int64) -> float:
    """As `Schedule.imbalance`, where every client has an actor of its own."""
    _, index = np.unique(owner, return_inverse=True)
    loads = np.bincount(index, weights=cost)
    return float(loads.max() / loads.mean()) if loads.any() else 1.0
