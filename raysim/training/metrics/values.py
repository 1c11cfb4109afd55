"""From what was added up over samples to the metrics' values."""

from __future__ import annotations

from collections.abc import Sequence

from raysim.arrays import Float64
from raysim.training.metrics.metric import Metric, value_of
from raysim.training.metrics.ranking import RankMetric, Scores


def values_of(metrics: Sequence[Metric], sums: Float64, scores: Scores | None = None) -> dict[str, float]:
    """The metrics' values by name.

    Args:
        metrics: in the order of the sums.
        sums: of the metrics' rows, side by side, `[Σ width]`.
        scores: of the same samples, where one of the metrics is a `RankMetric`; it is NaN without.
    """
    curves = scores.curves() if scores is not None else []
    values: dict[str, float] = {}
    end = 0
    for one in metrics:
        start, end = end, end + one.width
        values[one.name] = one.of_curves(curves) if isinstance(one, RankMetric) else value_of(one, sums[start:end])
    return values
