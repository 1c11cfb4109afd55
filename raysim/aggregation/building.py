"""The aggregation of an experiment: the one place that turns what an algorithm sends into fields that are folded."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from raysim.aggregation.chain import ARRIVED, Aggregation
from raysim.aggregation.each import MeanAndRows
from raysim.aggregation.float_sum import FloatSum
from raysim.aggregation.learned import LearnedMean
from raysim.aggregation.parts import MeanOfParts
from raysim.aggregation.records import Field
from raysim.aggregation.returns import RETURNS
from raysim.aggregation.rules import Rule, WeightedMean
from raysim.aggregation.stages import ModelColumns, Trait, UpdateStage
from raysim.config import load
from raysim.config.protection import NoProtectionConfig, ProtectionConfig
from raysim.config.server import (
    AggregationConfig,
    LearnedWeightsConfig,
    SamplesWeightsConfig,
    UniformWeightsConfig,
    WeightsConfig,
)
from raysim.config.stages import CustomStageConfig, StageConfig
from raysim.errors import ConfigError
from raysim.user_code import guarded, user_code

STAGES: Mapping[str, str] = {
    "canaries": "raysim.privacy.canaries:Canaries",
    "zero": "raysim.aggregation.norms:Zero",
    "clip": "raysim.aggregation.norms:Clip",
    "measure": "raysim.aggregation.norms:Measure",
    "adaptive_clip": "raysim.privacy.adaptive_clip:AdaptiveClip",
    "layer_clip": "raysim.privacy.layer_clip:LayerClip",
    "gaussian": "raysim.privacy.central:Gaussian",
    "tree": "raysim.privacy.correlated:TreeNoise",
    "bsr": "raysim.privacy.correlated:BandedNoise",
    "blt": "raysim.privacy.correlated:BltNoise",
    "local_gaussian": "raysim.privacy.local:LocalGaussian",
    "local_laplace": "raysim.privacy.local:LocalLaplace",
    "discrete_gaussian": "raysim.privacy.distributed:DiscreteGaussian",
    "skellam": "raysim.privacy.distributed:Skellam",
    "rotate": "raysim.compression.rotate:Rotate",
    "compress": "raysim.compression.compress:Compress",
    "randk": "raysim.compression.random_columns:RandomK",
    "sketch": "raysim.compression.sketch:Sketch",
    "downlink": "raysim.compression.downlink:Downlink",
}
"""Import string of every stage by its name in the configuration. Families of stages are rooms above this one."""

PROTECTIONS: Mapping[str, str] = {
    "unmasked": "raysim.privacy.secagg.rule:UnmaskedMean",
    "secagg": "raysim.privacy.secagg.rule:MaskedMean",
    "secagg_plus": "raysim.privacy.secagg.rule:MaskedMean",
    "bfv": "raysim.privacy.he.rule:EncryptedMean",
    "ckks": "raysim.privacy.he.rule:EncryptedMean",
}
"""Import string of the rule of every protection, which is called with its section and the fields that are sent."""

_ON_CLIENTS = frozenset({"client", "wire", "encoded", "download", "integers"})
"""Methods that a worker calls for clients, whose errors name the client and the round."""


def build_rule(config: AggregationConfig, sent: Sequence[Field], columns: ModelColumns | None = None) -> Rule:
    """The rule that folds records of these fields.

    Args:
        config: the weights, and whether sums are exact: each field in its own fixed point, or all in float32.
        sent: the fields of a record.
        columns: of the model, where the rule is not only timed.

    Raises:
        ConfigError: the weights are learned, and a field is kept; or records are protected, and the server needs them
            one by one, or their sum is not of integers.
    """
    if not isinstance(config.protection, NoProtectionConfig):
        return _protected(config, config.protection, sent, columns)
    fields = sent if config.exact else [replace(one, format=FloatSum()) for one in sent]
    if kept := [field.name for field in fields if field.kept]:
        if isinstance(config.weights, LearnedWeightsConfig):
            raise ConfigError(
                f"aggregation.weights: learned tries means, and the server takes {kept[0]!r} of every client; set it "
                "to samples or uniform"
            )
        return MeanAndRows(fields)
    if any(field.parts for field in fields):
        return MeanOfParts(fields)
    if isinstance(config.weights, LearnedWeightsConfig):
        return LearnedMean(config.weights, fields)
    return WeightedMean(fields)


def _protected(
    config: AggregationConfig, protection: ProtectionConfig, sent: Sequence[Field], columns: ModelColumns | None
) -> Rule:
    key = f"aggregation.protection: {protection.name} hides what single clients send, but"
    if not config.exact:
        raise ConfigError(f"{key} sums of floats are not integers; set aggregation.exact to true")
    if isinstance(config.weights, LearnedWeightsConfig):
        raise ConfigError(f"{key} learned weights try them one by one; set aggregation.weights to samples or uniform")
    if kept := [field.name for field in sent if field.kept]:
        raise ConfigError(f"{key} the algorithm's server takes {kept[0]!r} of every client; remove the protection")
    build: Callable[[ProtectionConfig, Sequence[Field], ModelColumns | None], Rule] = load(
        PROTECTIONS[protection.name], key="aggregation.protection.name"
    )
    return build(protection, sent, columns)


def build_aggregation(config: AggregationConfig, sent: Sequence[Field], columns: ModelColumns) -> Aggregation:
    """The rule and the stages of a configuration.

    Args:
        sent: what a client of the algorithm sends.
        columns: of the model.

    Raises:
        ConfigError: a stage is none, its arguments do not fit, or it lacks what it needs from the others.
        UserCodeError: a stage of the user's own fails.
    """
    stages: list[UpdateStage] = []
    names: list[str] = []
    at_each: list[tuple[Field, ...]] = []
    fields = tuple(sent)
    for place, one in enumerate(config.stages):
        stage = _build(one, columns, f"aggregation.stages[{place}]")
        name = one.name.rpartition(":")[2] if isinstance(one, CustomStageConfig) else one.name
        names.append(name)
        stage.label = name if names.count(name) == 1 else f"{name}{names.count(name)}"
        stage.sent = fields
        at_each.append(fields)
        try:
            fields = tuple(stage.fields(fields))
        except ConfigError as error:
            raise ConfigError(f"aggregation.stages[{place}]: {stage.label}: {error}") from None
        stages.append(stage)
    if any(stage.fixed for stage in stages):
        fields = (*fields, ARRIVED)
    values = tuple(columns.values(field.size) for field in fields)
    found = Aggregation(build_rule(config, fields, columns), tuple(stages), tuple(at_each), values)
    found.check(_traits(config.weights) | {"memoryless"})
    return found


def _traits(weights: WeightsConfig) -> frozenset[Trait]:
    """What holds for clients of these weights."""
    if isinstance(weights, UniformWeightsConfig):
        return frozenset({"uniform_weights", "bounded_weights"})
    capped = isinstance(weights, SamplesWeightsConfig) and weights.cap is not None
    return frozenset({"bounded_weights"}) if capped else frozenset()


def _build(config: StageConfig, columns: ModelColumns, key: str) -> UpdateStage:
    if not isinstance(config, CustomStageConfig):
        own: type[UpdateStage] = load(STAGES[config.name], key=f"{key}.name")
        try:
            return own(columns, **{key: value for key, value in config if key != "name"})
        except ConfigError as error:
            raise ConfigError(f"{key}: {config.name}: {error}") from None
    found: Any = load(config.name, key=f"{key}.name")
    if not (isinstance(found, type) and issubclass(found, UpdateStage)):
        raise ConfigError(f"{key}.name: {config.name} is not a subclass of raysim.aggregation.UpdateStage")
    place = f"stage {config.name}"
    with user_code(place):
        signature = inspect.signature(found)
    try:
        signature.bind(columns, **config.args)
    except TypeError as error:
        raise ConfigError(f"{key}.args: {config.name}: {error}") from None
    stage = guarded(found, UpdateStage, place, apart_from=_ON_CLIENTS, returns=RETURNS)
    with user_code(place):
        return stage(columns, **config.args)
