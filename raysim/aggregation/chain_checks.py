"""Which chains of stages are refused: a stage lacks what it needs of the others, or would undo what they promise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from raysim.aggregation.rules import Road
from raysim.aggregation.stages import Trait, UpdateStage
from raysim.errors import ConfigError

REMEDIES: Mapping[Trait, str] = {
    "bounded": "records of bounded norm where they are folded; put a stage that bounds them before it, e.g. "
    "{name: clip, max_norm: 1.0}, and none that unbounds them behind it",
    "bounded_l1": "records of bounded sum of magnitudes; put {name: clip, max_norm: 1.0, order: 1} before it",
    "steady": "a bound that is the same in every round, as its noise in a round takes away that of others; use clip or "
    "layer_clip",
    "memoryless": "records of this round alone: what a stage with error feedback keeps acts in later rounds; remove it",
    "uniform_weights": "clients of equal weight; set aggregation.weights to uniform",
    "bounded_weights": "clients whose weight is at most 1 and depends on no other client; set aggregation.weights to "
    "uniform, or to {name: samples, cap: …}",
}
"""What a stage asks for, and what to do where it is not there."""


def check_chain(road: Road, stages: Sequence[UpdateStage], traits: frozenset[Trait]) -> None:
    """Refuse a chain in which a stage lacks what it needs.

    Args:
        road: of the rule.
        stages: outermost first.
        traits: that hold for what an algorithm sends.

    Raises:
        ConfigError: names the stage, what it needs and the remedy.
    """
    for i, stage in enumerate(stages):
        key = f"aggregation.stages[{i}]"
        if road not in stage.roads:
            why = "this aggregation.protection" if road == "modular" else "these aggregation.weights"
            raise ConfigError(
                f"{key}: {stage.label} works on the road {' or '.join(sorted(stage.roads))}, but with {why} "
                f"records travel as {road}; remove it, or use other {why.rpartition('.')[2]}"
            )
        if stage.codes:
            _check_coded(stages, i)
        if "bounded" in stage.needs:
            _check_exposed(stages, stage)
        broken = {trait for later in stages[i + 1 :] for trait in _broken(later)}
        for trait in sorted(stage.needs):
            if trait not in traits or trait in broken:
                raise ConfigError(f"{key}: {stage.label} needs {REMEDIES[trait]}")
        if "bounded" in stage.gives and type(stage).bound is UpdateStage.bound:
            raise ConfigError(f"{key}: {stage.label} gives bounded records, but not their bound; override bound")
        if stage.mechanism is not None and stage.mechanism.adds == "server":
            _check_inside(stages, i)
        traits = (traits - _broken(stage)) | stage.gives


def _check_inside(stages: Sequence[UpdateStage], place: int) -> None:
    """Refuse what may not stand between noise and the sum."""
    noise = stages[place]
    for i, inner in enumerate(stages[place + 1 :], place + 1):
        if inner.mechanism is not None:
            raise ConfigError(f"aggregation.stages[{i}]: {inner.label}: {noise.label} adds noise already; remove one")
        if inner.gives:
            raise ConfigError(
                f"aggregation.stages[{i}]: {inner.label} stands inside of the noise, whose size goes by the bound "
                f"outside of it; put it before {noise.label}"
            )


def _check_coded(stages: Sequence[UpdateStage], place: int) -> None:
    """Refuse what would change a message that is encoded."""
    outer = stages[place]
    for i, inner in enumerate(stages[place + 1 :], place + 1):
        if type(inner).client is not UpdateStage.client and not inner.observes:
            raise ConfigError(
                f"aggregation.stages[{i}]: {inner.label} changes what {outer.label} has encoded; put it before "
                f"{outer.label}, or remove one"
            )


def _check_exposed(stages: Sequence[UpdateStage], noise: UpdateStage) -> None:
    """Refuse noise on records of which something gets past it."""
    for i, stage in enumerate(stages):
        if stage.exposes is not None:
            raise ConfigError(
                f"aggregation.stages[{i}]: {stage.label}: {stage.exposes}: {noise.label} needs another, such as "
                "randk, or none"
            )


def _broken(stage: UpdateStage) -> frozenset[Trait]:
    """What does not hold any more after a client half."""
    return stage.breaks | {"memoryless"} if stage.client_state() and not stage.observes else stage.breaks
