"""The rule of an experiment: the one place that turns what clients send into fields that are folded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from raysim.aggregation.float_sum import FloatSum
from raysim.aggregation.learned import LearnedMean
from raysim.aggregation.records import Field
from raysim.aggregation.rules import Rule, WeightedMean
from raysim.config.server import AggregationConfig, LearnedWeightsConfig


def build_rule(config: AggregationConfig, sent: Sequence[Field]) -> Rule:
    """The rule that folds records of these fields.

    Args:
        config: the weights, and whether sums are exact: each field in its own fixed point, or all in float32.
        sent: what a client sends.
    """
    fields = sent if config.exact else [replace(one, format=FloatSum()) for one in sent]
    if isinstance(config.weights, LearnedWeightsConfig):
        return LearnedMean(config.weights, fields)
    return WeightedMean(fields)
