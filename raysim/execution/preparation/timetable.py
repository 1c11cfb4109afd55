"""The timetable of a run, drawn from its configuration and its clients before anything starts; and what it refuses."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import islice

import numpy as np

from raysim.aggregation import Aggregation
from raysim.arrays import Bools, Int64
from raysim.config import Experiment
from raysim.config.algorithms import CentralisedConfig
from raysim.config.edges import BackhaulConfig, HierFavgConfig
from raysim.config.systems import (
    BaseAsynchronousConfig,
    DeadlineConfig,
    NoFleetConfig,
    OverSelectionConfig,
)
from raysim.data import Federation
from raysim.errors import ConfigError
from raysim.execution.placement.memory import Skeleton
from raysim.privacy import PrivacyPlan
from raysim.rounds.ranges import Evaluated, EvaluationRange
from raysim.selection import Selection, build_selection
from raysim.selection.cohort import cohort_size
from raysim.selection.edges import edges_of
from raysim.selection.oort import Oort
from raysim.systems import Buffered, EdgeRounds, Fleet, FleetTimetable, Load, Rounds, build_fleet
from raysim.systems.timetables.rounds import Cohorts
from raysim.training import LocalWork


def build_timetable(
    experiment: Experiment,
    federation: Federation,
    work: LocalWork,
    selection: Selection,
    aggregation: Aggregation,
    down: int | Int64,
    privacy: PrivacyPlan | None,
) -> FleetTimetable | None:
    """When the server takes which step, and with whom; None where no devices are configured.

    Args:
        selection: draws the cohorts of rounds.
        aggregation: how large an update is.
        down: bytes that a client receives, the same for all or of each, `[population]`.
        privacy: what the noise of stages is worth.

    Raises:
        ConfigError: the devices' records are damaged, no client can meet the deadline, a budget of virtual time is
            below one step, or something is configured that virtual time cannot have.
    """
    config = experiment.systems
    if isinstance(config.fleet, NoFleetConfig):
        if (key := config.without_devices) is not None:
            raise ConfigError(f"systems.{key}: it is for devices; set systems.fleet, or remove systems.{key}")
        return None
    _check(experiment, work, selection, privacy)
    up = _most_up(aggregation, down)
    load = trip_load(work, federation.sizes("train"), down, up, samples=config.unit == "samples")
    fleet = build_fleet(config, experiment.seed, federation.population)
    timetable = _timetable(experiment, federation, work, selection, fleet, load)
    _check_time_budget(experiment, timetable)
    return timetable


def _most_up(aggregation: Aggregation, down: int | Int64) -> int | Int64:
    """Bytes that a client sends at most, the same for all or of each, as those that it receives are."""
    if isinstance(down, int):
        clients = np.zeros(1, dtype=np.int64)
        return max(int(aggregation.most_bytes(number, clients)[0].sum()) for number in (1, 2))
    return aggregation.most_bytes(1, np.arange(len(down)))[0]


def most_down(skeleton: Skeleton, population: int) -> int | Int64:
    """Bytes that a federation would send to a client before it trains at most, the same for all or `[population]`."""
    received = skeleton.aggregation.received(1, np.arange(population))
    return skeleton.most_down if received is None else skeleton.most_down + received


def trip_load(work: LocalWork, sizes: Int64, down: int | Int64, up: int | Int64, *, samples: bool) -> Load:
    """The work of trips of clients with this many samples, counted in samples or in local steps."""
    steps = work.count(sizes)
    if not samples:
        return Load(steps, down, up)
    batch = sizes if work.batch_size is None else np.minimum(sizes, work.batch_size)
    if work.steps is not None:
        return Load(steps * batch, down, up, steps)
    epoch = work.per_epoch(sizes) * batch if work.drop_last else sizes
    return Load(epoch * work.epochs * work.repeats, down, up, steps)


def last_step(experiment: Experiment, timetable: FleetTimetable | None) -> int:
    """The last round of a run, which its budget of virtual time may end."""
    budget, rounds = experiment.stop.virtual_seconds, experiment.rounds
    if budget is None or timetable is None:
        return rounds
    for plan in islice(timetable.plans(), rounds):
        if plan.at > budget:
            return plan.step - 1
    return rounds


def timetable_text(experiment: Experiment, timetable: FleetTimetable) -> str:
    """The timetable in a line, with the share of the clients that could meet its deadline."""
    systems = experiment.systems
    text = f"{systems.timetable.name} on {systems.fleet.name} devices"
    share = share_in_time(timetable)
    if share is None:
        return text
    what = "a step of their work" if getattr(systems.timetable, "keep_partial", False) else "their work"
    return f"{text}; {share:.0%} of the clients can do {what} before the deadline"


def share_in_time(timetable: FleetTimetable) -> float | None:
    """Share of the clients that could meet a deadline if they were always there; None without one.

    With partial work kept, those that could do a step in time.
    """
    if not isinstance(timetable, Rounds) or timetable.deadline is None:
        return None
    return float(np.mean(_in_time(timetable, timetable.deadline)))


def _in_time(timetable: Rounds, deadline: float) -> Bools:
    fleet, load = timetable.fleet, timetable.load
    every = np.arange(load.population)
    steps = np.maximum(load.steps_of(every), 1)
    least = load.work / steps if timetable.partial else load.work
    return fleet.seconds(every, least / fleet.speed, load.down, load.up) <= deadline


def _timetable(
    experiment: Experiment, federation: Federation, work: LocalWork, selection: Selection, fleet: Fleet, load: Load
) -> FleetTimetable:
    config = experiment.systems.timetable
    if isinstance(config, BaseAsynchronousConfig):
        if config.in_flight > federation.population:
            raise ConfigError(
                f"systems.timetable.in_flight: {config.in_flight} clients in flight, but only {federation.population} "
                "in the population; lower it"
            )
        return Buffered(fleet, load, experiment.seed, config.updates, config.in_flight, config.max_staleness)
    if isinstance(config, OverSelectionConfig):
        return _over_selection(experiment, federation, work, config, fleet, load)
    if isinstance(selection, Oort):
        selection = selection.on(Rounds(fleet, load, _Cohorts(selection)))
    cohorts = _Cohorts(selection)
    if isinstance(experiment.algorithm, HierFavgConfig):
        return _of_edges(experiment, experiment.algorithm, federation, fleet, load, cohorts)
    if not isinstance(config, DeadlineConfig):
        return Rounds(fleet, load, cohorts)
    timetable = Rounds(fleet, load, cohorts, deadline=config.seconds, partial=config.keep_partial)
    if not (share := share_in_time(timetable)):
        every = np.arange(load.population)
        needed = float(fleet.seconds(every, load.work / fleet.speed, load.down, load.up).min())
        what = "do a local step" if config.keep_partial else "return"
        raise ConfigError(
            f"systems.timetable.seconds: no client can {what} within {config.seconds:g} virtual seconds ({share:.0%} "
            f"of {load.population:,}); the fastest one needs {needed:.4g} for all of its work; raise it"
        )
    return timetable


def _over_selection(
    experiment: Experiment,
    federation: Federation,
    work: LocalWork,
    config: OverSelectionConfig,
    fleet: Fleet,
    load: Load,
) -> Rounds:
    needed = cohort_size(experiment, federation.population)
    drawn = min(math.ceil(config.factor * needed), federation.population)
    if drawn == needed:
        raise ConfigError(
            f"systems.timetable.factor: {config.factor:g} times a cohort of {needed} is no more than the cohort (there "
            f"are {federation.population} clients); lower cohort, or raise factor"
        )
    more = experiment.model_copy(update={"cohort": drawn})
    return Rounds(fleet, load, _Cohorts(build_selection(more, federation, work)), needed=needed)


def _of_edges(
    experiment: Experiment,
    algorithm: HierFavgConfig,
    federation: Federation,
    fleet: Fleet,
    load: Load,
    cohorts: Cohorts,
) -> EdgeRounds:
    edge, link = edges_of(experiment, federation), experiment.systems.backhaul
    assert edge is not None, "a hierarchy has edges"
    message = float(np.max(load.down))  # a model, as a client is sent
    up, down = (link.latency + (0.0 if rate is None else message / rate) for rate in (link.upload, link.download))
    return EdgeRounds(fleet, load, cohorts, edge, algorithm.edge_rounds, up, down)


class _Cohorts:
    """The cohorts of a selection that looks at no result; of Oort the first one, which follows from no loss."""

    def __init__(self, selection: Selection) -> None:
        self._selection = selection

    def __call__(self, step: int) -> Int64:
        assert step == 1 or not self._selection.adaptive, "later cohorts depend on results"
        return self._selection.cohort(step, self._selection.first(), _no_measure)


def _no_measure(ranges: Iterable[EvaluationRange]) -> list[Evaluated]:
    raise ConfigError("selection: it measures losses, and virtual time must not depend on results; set it to uniform")


def _check(experiment: Experiment, work: LocalWork, selection: Selection, privacy: PrivacyPlan | None) -> None:
    """Refuse what virtual time cannot have."""
    timetable = experiment.systems.timetable
    if experiment.systems.backhaul != BackhaulConfig() and not isinstance(experiment.algorithm, HierFavgConfig):
        raise ConfigError(
            f"systems.backhaul: it links edges and a cloud, and {experiment.algorithm.name} has none; remove it, or "
            "set algorithm to hierfavg"
        )
    if isinstance(experiment.algorithm, CentralisedConfig):
        raise ConfigError("systems.fleet: centralised training has no devices; remove systems")
    if work.rounds > 1:
        raise ConfigError(
            f"systems.fleet: {experiment.algorithm.name} keeps each cohort for {work.rounds} rounds, whose trips "
            "virtual time does not know; choose another algorithm"
        )
    if selection.adaptive and (not isinstance(selection, Oort) or isinstance(experiment.algorithm, HierFavgConfig)):
        raise ConfigError(
            f"systems.fleet: selection {experiment.selection.name} looks at results, and virtual time must not depend "
            "on them; set selection to uniform"
        )
    if selection.adaptive and experiment.stop.virtual_seconds is not None:
        raise ConfigError(
            "stop.virtual_seconds: whom selection oort chooses depends on losses, so that the last round within it is "
            "not known before; remove it, or set selection to uniform"
        )
    if isinstance(timetable, BaseAsynchronousConfig) and experiment.selection.name != "uniform":
        raise ConfigError(
            f"selection: {timetable.name} sends clients out one at a time, each equally likely, and selection is "
            f"{experiment.selection.name}; set it to uniform"
        )
    if isinstance(timetable, OverSelectionConfig) and experiment.selection.name not in ("uniform", "round_robin"):
        raise ConfigError(
            "selection: over_selection draws more clients than a cohort, and selection is "
            f"{experiment.selection.name}; set it to uniform or round_robin"
        )
    if privacy is not None and privacy.account is not None and _chooses(experiment):
        raise ConfigError(
            "systems: epsilon is accounted for the cohorts that selection draws, and devices that are late, gone or "
            "dropped change them; use timetable synchronous with devices that are always there"
        )


def _chooses(experiment: Experiment) -> bool:
    """Whether others contribute than those that the selection draws."""
    systems = experiment.systems
    return systems.timetable.name != "synchronous" or systems.availability.name != "always" or systems.dropout > 0


def check_wire_budget(experiment: Experiment, aggregation: Aggregation, clients: int, down: int | Int64) -> None:
    """Refuse a budget of bytes that is below one round.

    Args:
        clients: of a round.
        down: bytes that a client receives, the same for all or of each, `[clients]`.

    Raises:
        ConfigError: it is.
    """
    budget = experiment.stop.wire_bytes
    if budget is None:
        return
    of = np.zeros(clients, dtype=np.int64) if isinstance(down, int) else np.arange(clients)
    up, known = aggregation.most_bytes(1, of)
    needed = int(np.sum(down + (up if known else 0 * up)))  # of what is not known a round may send less
    if budget < needed:
        raise ConfigError(f"stop.wire_bytes: {budget:,} are below one round, which sends {needed:,}; raise it")


def _check_time_budget(experiment: Experiment, timetable: FleetTimetable) -> None:
    budget = experiment.stop.virtual_seconds
    if budget is not None and (first := next(iter(timetable.plans())).at) > budget:
        raise ConfigError(
            f"stop.virtual_seconds: {budget:g} s are below the first step, which takes {first:.4g}; raise it"
        )
