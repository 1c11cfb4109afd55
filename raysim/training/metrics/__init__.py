"""Metrics: sums over samples, and scores of them, that merge exactly over shards, workers and clients."""

from raysim.training.metrics.confusion import ConfusionCounts, PairCounts, added_pairs
from raysim.training.metrics.metric import MeanMetric, Metric, contributions_of, total_of, value_of
from raysim.training.metrics.ranking import Collector, Counted, RankMetric, Scores, WholeSet, merged
from raysim.training.metrics.resolve import METRICS, check_metrics, evaluated_metrics, list_metrics, resolve_metrics
from raysim.training.metrics.values import values_of

__all__ = [
    "METRICS",
    "Collector",
    "ConfusionCounts",
    "Counted",
    "MeanMetric",
    "Metric",
    "PairCounts",
    "RankMetric",
    "Scores",
    "WholeSet",
    "added_pairs",
    "check_metrics",
    "contributions_of",
    "evaluated_metrics",
    "list_metrics",
    "merged",
    "resolve_metrics",
    "total_of",
    "value_of",
    "values_of",
]
