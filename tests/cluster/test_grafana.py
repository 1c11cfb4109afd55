"""The dashboard asks for what a run really tells."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raysim.cluster.metrics import COUNTERS, GAUGES, PHASE, TAGS

DASHBOARD = json.loads(
    (Path(__file__).parents[2] / "configs" / "cluster" / "grafana_dashboard.json").read_text(encoding="utf-8")
)
EXPORTED = {f"ray_{name}_total" for name in COUNTERS} | {f"ray_{name}" for name in GAUGES}
"""Ray's names for Prometheus."""


def queries() -> Iterator[tuple[str, str]]:
    """Title of the panel, or name of the variable, and its query."""
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["query"]


@pytest.mark.parametrize(("where", "query"), list(queries()))
def test_every_metric_of_a_query_exists_and_so_does_every_tag(where: str, query: str) -> None:
    asked = set(re.findall(r"\bray_\w+", query))
    assert asked
    assert asked <= EXPORTED
    grouped = {tag for group in re.findall(r"by \(([^)]*)\)", query) for tag in group.replace(" ", "").split(",")}
    assert grouped <= {*TAGS, PHASE}
    assert PHASE not in grouped or asked & {"ray_raysim_phase_seconds_total"}


def test_counters_are_asked_for_as_rates_and_gauges_as_they_are() -> None:
    for _, query in queries():
        for name in re.findall(r"\bray_\w+", query):
            assert (re.search(rf"(rate|increase)\({name}\{{", query) is not None) == name.endswith("_total")


def test_every_metric_is_shown_somewhere() -> None:
    shown = {name for _, query in queries() for name in re.findall(r"\bray_\w+", query)}
    assert shown == EXPORTED


def test_panels_lie_side_by_side_with_names_of_their_own() -> None:
    panels: list[dict[str, Any]] = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
