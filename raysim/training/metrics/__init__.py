"""Metrics: sums over samples that merge exactly over shards, workers and clients."""

from raysim.training.metrics.metric import MeanMetric, Metric, contributions_of, total_of, values_of
from raysim.training.metrics.resolve import METRICS, check_metrics, list_metrics, resolve_metrics

__all__ = [
    "METRICS",
    "MeanMetric",
    "Metric",
    "check_metrics",
    "contributions_of",
    "list_metrics",
    "resolve_metrics",
    "total_of",
    "values_of",
]
