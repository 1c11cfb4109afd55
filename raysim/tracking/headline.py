"""Which metric a run is judged by, and whether larger is better."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Literal

from raysim.config import Experiment
from raysim.tracking.metric_names import ACCOUNTS, UNTUNED, parts_of

ClientSet = Literal["holdout", "test"]
"""Samples of a client's own that it is evaluated on: what it keeps back, and what of the test set is its own."""
OVER_CLIENTS: Mapping[ClientSet, str] = {"holdout": "clients/", "test": "clients/test/"}
"""In front of what is measured on them: `clients/accuracy/worst10`, `clients/test/accuracy/worst10`."""

_PARTS = ("validation", "test", "clients", "train")
_SMALLER_IS_BETTER = re.compile(r"(?i)(loss|error|mae|mse|rmse|perplexity|brier|\bece)$")


def measure(metric: str) -> str:
    """What is measured, without where: `test/accuracy` and `clients/test/accuracy/worst10` are both `accuracy`."""
    return parts_of(metric).family


def over_clients(metric: str) -> str:
    """What a summary over clients is of, with the set where that is not the holdout: `accuracy`, `test/accuracy`."""
    parts = parts_of(metric)
    return f"test/{parts.family}" if parts.where == "clients/test" else parts.family


def smaller_is_better(metric: str) -> bool:
    """True for losses and errors, by name, and for how much clients differ; everything else is better when larger."""
    if metric.startswith("clients/"):
        what = parts_of(metric).summary.removeprefix(UNTUNED)
        if what in ("std", "gini", "jain", "below_local"):
            return what != "jain"
    return _SMALLER_IS_BETTER.search(measure(metric)) is not None


def improves(metric: str, value: float, best: float | None) -> bool:
    """Whether the value beats the best so far; NaN never does."""
    if math.isnan(value):
        return False
    return best is None or (value < best if smaller_is_better(metric) else value > best)


def headline_metric(available: Iterable[str], experiment: Experiment | None = None) -> str | None:
    """The metric that a run is judged by, of those that it measures; None if it measures nothing.

    It is `stop.metric` where the experiment names one; else what is measured on validation, else test data: accuracy
    first, then any other metric, then the loss; never what is spent.
    """
    names = [name for name in available if not name.startswith(ACCOUNTS)]
    if experiment is not None and experiment.stop.metric in names:
        return experiment.stop.metric

    def order(name: str) -> tuple[int, int, int]:
        part, _, what = name.partition("/")
        place = _PARTS.index(part) if part in _PARTS else len(_PARTS)
        return place, 0 if what.startswith("accuracy") else 2 if what == "loss" else 1, names.index(name)

    return min(names, key=order, default=None)
