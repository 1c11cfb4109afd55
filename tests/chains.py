"""Chains of stages on a small layout with padding, and what goes through them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from raysim.aggregation import Aggregation, Field, MeanContext, SendContext, build_aggregation
from raysim.config.server import AggregationConfig
from raysim.training import ParameterLayout

LAYOUT = ParameterLayout(nn.Sequential(nn.Linear(7, 5), nn.Linear(5, 3)))
"""35 + 5 + 15 + 3 values in 128 columns or less."""
FIELDS = (Field("update", LAYOUT.size),)


def chain(*stages: Any, layout: ParameterLayout = LAYOUT, **more: Any) -> Aggregation:
    config = AggregationConfig.model_validate({"stages": list(stages), "weights": "uniform", **more})
    return build_aggregation(config, (Field("update", layout.size),), layout)


def rows(count: int, scale: float = 1.0, seed: int = 1) -> torch.Tensor:
    """Updates `[count, P]` with zeros in the padding."""
    generator = torch.Generator().manual_seed(seed)
    found = torch.zeros(count, LAYOUT.size)
    for segment in LAYOUT.segments:
        found[:, segment.start : segment.start + segment.size] = scale * torch.randn(
            count, segment.size, generator=generator
        )
    return found


def sent(aggregation: Aggregation, updates: torch.Tensor, **more: Any) -> dict[str, torch.Tensor]:
    count = np.arange(len(updates))
    found, _ = aggregation.client({"update": updates}, SendContext(0, 1, count, np.ones_like(count), **more))
    return dict(found)


def step(
    aggregation: Aggregation, mean: dict[str, Any], state: Any, round_number: int = 1, cohort: int = 10, **more: Any
) -> Any:
    """A server step on a mean over a cohort that came whole."""
    context = MeanContext(
        0, round_number, (), more.pop("columns", slice(0, LAYOUT.size)), cohort, cohort, float(cohort), **more
    )
    arrived = {"stages.arrived": np.array([float(cohort)])} if aggregation.fixed else {}
    return aggregation.server({**mean, **arrived}, state, context)
