"""The last lines of a run: how it ended, its last metrics, and where everything is."""

from __future__ import annotations

import math
from collections.abc import Mapping

from raysim.rounds.rows import RunSummary
from raysim.tracking.headline import over_clients
from raysim.tracking.metric_names import by_class, parts_of
from raysim.tracking.units import duration, figure, rate

WIDTH = 110
"""Columns of a line of metrics; more are broken by the set that they were measured on."""


def closing_lines(summary: RunSummary) -> list[str]:
    """How a run ended, its last metrics, and where the run and its report are."""
    rounds = f"{summary.rounds} round{'' if summary.rounds == 1 else 's'}"
    tokens = f", {rate(summary.tokens / summary.seconds)} tokens/s" if summary.tokens and summary.seconds > 0 else ""
    lines = [f"{summary.reason}: {rounds} in {duration(summary.seconds)}{tokens}"]
    lines += _server(summary.metrics)
    lines += _classes(summary.metrics)
    lines += _over_clients(summary.metrics)
    if summary.run is not None:
        lines.append(f"run     {summary.run}")
    if summary.report is not None:
        lines.append(f"report  {summary.report}")
    return lines


def _server(metrics: Mapping[str, float]) -> list[str]:
    """What was measured on the server's sets: one line, or one for each set where that is too long."""
    shown = {name: value for name, value in metrics.items() if not (parts_of(name).of_class or parts_of(name).summary)}
    together = "  ".join(f"{name} {figure(value)}" for name, value in shown.items())
    if len(together) <= WIDTH:
        return [together] if together else []
    sets: dict[str, list[str]] = {}
    for name, value in shown.items():
        parts = parts_of(name)
        sets.setdefault(parts.where or "other", []).append(f"{parts.family} {figure(value)}")
    return [f"{where}: {'  '.join(texts)}" for where, texts in sets.items()]


def _classes(metrics: Mapping[str, float]) -> list[str]:
    """A line for each thing that was measured of every class: the mean, the worst and the best of them."""
    lines = []
    for (where, family, summary), names in by_class(metrics).items():
        if summary:
            continue
        known = {one: metrics[name] for one, name in names.items() if not math.isnan(metrics[name])}
        if not known:
            continue
        if len(known) <= 2:
            each = "  ".join(f"{one} {figure(value)}" for one, value in known.items())
            lines.append(f"{where}/{family}: {each}")
            continue
        low, high = min(known, key=known.__getitem__), max(known, key=known.__getitem__)
        mean = figure(sum(known.values()) / len(known))
        ends = f"{figure(known[low])} ({low}) to {figure(known[high])} ({high})"
        lines.append(f"{where}/{family}: mean {mean} over {len(known)} classes, {ends}")
    return lines


def _over_clients(metrics: Mapping[str, float]) -> list[str]:
    """All summaries over the clients of all that was measured, but for the loss and single classes: a line each."""
    lines: dict[str, list[str]] = {}
    for name, value in metrics.items():
        parts = parts_of(name)
        if parts.summary and parts.family != "loss" and not parts.of_class:
            label = f"clients {over_clients(name)}"
            lines.setdefault(label, []).append(f"{parts.summary} {figure(value)}")
    return [f"{what}: {'  '.join(texts)}" for what, texts in lines.items()]
