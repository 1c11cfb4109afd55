"""Output of `raysim plan`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from raysim.cli.json_outputs.data import DataOutput
from raysim.cli.timetable import forecast_of
from raysim.config.parsing import values_of
from raysim.execution.placement.placing import Placement
from raysim.execution.placement.slots import Node, Share
from raysim.execution.preparation.estimate import RoundPlan, RunPlan
from raysim.execution.preparation.padding import Padding
from raysim.execution.preparation.prepare import Prepared
from raysim.privacy.plan import PrivacyFacts, WithoutEpsilon
from raysim.systems import Forecast
from raysim.training.building import EngineChoice


@dataclass(frozen=True, slots=True)
class PlannedModel:
    """The model of a run.

    Attributes:
        name: as in the configuration.
        parameters: values that train.
        bytes: of a message in float32, padding included.
        whole_bytes: of the whole model in float32, frozen parameters too.
    """

    name: str
    parameters: int
    bytes: int
    whole_bytes: int


@dataclass(frozen=True, slots=True)
class PlannedEngine(EngineChoice):
    """How clients are trained."""

    reason: str = ""
    """Why so."""


@dataclass(frozen=True, slots=True)
class PlannedClass:
    """A class of clients.

    Attributes:
        name: as in the configuration.
        clients: of it in the population.
        work: its share of all local steps.
    """

    name: str
    clients: int
    work: float


@dataclass(frozen=True, slots=True)
class PlannedActors:
    """Where actors go.

    Attributes:
        nodes: the node of each actor.
        classes: the class of clients of each actor.
        shares: what an actor of each class has.
        slots: actors of the default class that each node would hold if it were empty.
        actors: how many there are.
    """

    nodes: tuple[str, ...]
    classes: tuple[str, ...]
    shares: Mapping[str, Share]
    slots: Mapping[str, int]
    actors: int

    @classmethod
    def of(cls, plan: RunPlan, placement: Placement) -> PlannedActors:
        """The same for a program."""
        names = [one for one, _, _ in plan.classes]
        return cls(
            nodes=placement.nodes,
            classes=tuple(names[seat.group] for seat in placement.seats),
            shares=dict(zip(names, placement.shares, strict=True)),
            slots=placement.slots,
            actors=placement.actors,
        )


@dataclass(frozen=True, slots=True)
class PlannedTimetable(Forecast):
    """The first steps of a run in virtual time."""

    name: str = ""
    """Of the timetable, as in the configuration."""

    @classmethod
    def of(cls, prepared: Prepared) -> PlannedTimetable | None:
        """The forecast for a program; None where there are no devices."""
        found = forecast_of(prepared)
        return None if found is None else cls(**values_of(found), name=prepared.experiment.systems.timetable.name)


@dataclass(frozen=True, slots=True)
class PlanOutput:
    """What `raysim run` would do.

    Attributes:
        name: of the experiment.
        data: clients and samples.
        model: what trains.
        activations: bytes that a local step keeps for its backward pass; null where they are not known.
        padding: of texts to classify; null where there are none.
        round: the first round as the scheduler sees it.
        executor: `ray`, or `inprocess` for this process alone.
        engine: how clients are trained.
        adapters: how products of adapters reach the server; null where there are none.
        links: who sends to whom; null where clients all send to one server.
        privacy: what the run promises; null where no stage adds noise.
        timetable: the first steps in virtual time; null where there are no devices.
        actor_memory: estimated bytes of an actor by what takes them; `total` is what it has for itself.
        nodes: the machines, the driver's own first.
        classes: of clients.
        placement: where actors go; null where the run stays in process.
    """

    name: str
    data: DataOutput
    model: PlannedModel
    activations: int | None
    padding: Padding | None
    round: RoundPlan
    executor: Literal["ray", "inprocess"]
    engine: PlannedEngine
    adapters: str | None
    links: str | None
    privacy: PrivacyFacts | WithoutEpsilon | None
    timetable: PlannedTimetable | None
    actor_memory: Mapping[str, int]
    nodes: tuple[Node, ...]
    classes: tuple[PlannedClass, ...]
    placement: PlannedActors | None

    @classmethod
    def of(cls, prepared: Prepared, plan: RunPlan) -> PlanOutput:
        """The same for a program."""
        experiment, placement = prepared.experiment, plan.placement
        return cls(
            name=experiment.name,
            data=DataOutput.of(prepared.job.federation, prepared.federation),
            model=PlannedModel(experiment.model.name, prepared.parameters, 4 * prepared.columns, plan.whole),
            activations=plan.activations,
            padding=plan.padding,
            round=plan.round,
            executor=experiment.execution.executor,
            engine=PlannedEngine(**values_of(prepared.job.engine), reason=prepared.engine.reason),
            adapters=prepared.adapters,
            links=prepared.links,
            privacy=None if prepared.privacy is None else prepared.privacy.facts(),
            timetable=PlannedTimetable.of(prepared),
            actor_memory=values_of(plan.memory) | {"total": plan.memory.total},
            nodes=plan.nodes,
            classes=tuple(PlannedClass(*one) for one in plan.classes),
            placement=None if placement is None else PlannedActors.of(plan, placement),
        )
