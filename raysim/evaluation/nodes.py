"""Nodes with models of their own, each evaluated on the server's sets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from raysim.data import Federation
from raysim.data.federation import ServerPart
from raysim.rounds.ranges import Evaluated, NodeRange
from raysim.training import Metric

OVER_NODES = ("mean", "worst", "std")
"""How a metric is summarised over the nodes."""


def node_ranges(federation: Federation, parts: Sequence[ServerPart]) -> list[NodeRange]:
    """A range for each node and set."""
    return [NodeRange(part, np.array([node])) for part in parts for node in range(federation.population)]


def node_names(metrics: Sequence[Metric], parts: Sequence[ServerPart]) -> list[str]:
    """Names of all that `over_nodes` may return."""
    return [f"nodes/{part}/{metric.name}/{what}" for part in parts for metric in metrics for what in OVER_NODES]


def over_nodes(results: Sequence[Evaluated], metrics: Sequence[Metric]) -> dict[str, float]:
    """Summaries of metrics over the nodes: `nodes/test/accuracy/worst`, …; nodes where one is NaN do not count."""
    found: dict[str, float] = {}
    for part in ("validation", "test"):
        rows = {
            int(one.clients[0]): one.sums
            for one in results
            if one.part == f"{part} of nodes" and one.clients is not None
        }
        for place, metric in enumerate(metrics if rows else ()):
            values = np.array([np.asarray(rows[node])[0, place] for node in sorted(rows)])
            values = values[~np.isnan(values)]
            if len(values):
                worst = values.min() if metric.higher_is_better else values.max()
                summary = (float(values.mean()), float(worst), float(values.std()))
                front = f"nodes/{part}/{metric.name}"
                found |= {f"{front}/{what}": value for what, value in zip(OVER_NODES, summary, strict=True)}
    return found
