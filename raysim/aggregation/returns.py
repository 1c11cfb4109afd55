"""What is wrong with what a user's stage returns; see `raysim.user_code.guarded`. Client halves are checked where they
are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from raysim.aggregation.records import Field
from raysim.aggregation.stages import UpdateStage
from raysim.aggregation.vectors import ClientVector
from raysim.user_code import Complaint


def _fields(stage: UpdateStage, found: Any, *given: Any) -> str | None:
    return _named(found, Field) or (None if len(found) else "no field; expected at least one")


def _client_state(stage: UpdateStage, found: Any) -> str | None:
    return _named(found, ClientVector)


def _named(found: Any, kind: type) -> str | None:
    if not isinstance(found, Sequence) or not all(isinstance(one, kind) for one in found):
        return f"a {type(found).__name__}; expected a tuple of raysim.aggregation.{kind.__name__}"
    names = [one.name for one in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    return None if twice is None else f"{twice!r} twice; give each its own name, e.g. f'{{self.label}}.{twice}'"


def _init(stage: UpdateStage, found: Any, *given: Any) -> str | None:
    return _vectors(found, "state")


def _server(stage: UpdateStage, found: Any, mean: Any, *given: Any) -> str | None:
    if not isinstance(found, tuple) or len(found) != 3:
        return f"a {type(found).__name__}; expected the triple (mean, state, metrics)"
    if (wrong := _vectors(found[0], "mean") or _vectors(found[1], "state")) is not None:
        return wrong
    metrics = found[2]
    if not isinstance(metrics, Mapping) or not all(
        isinstance(one, int | float | np.number) for one in metrics.values()
    ):
        return f"a {type(metrics).__name__} as metrics; expected a mapping of names to numbers"
    unknown = sorted(set(metrics) - set(stage.metrics))
    return f"the metric {unknown[0]!r}, which its class does not declare in `metrics`" if unknown else None


def _vectors(found: Any, what: str) -> str | None:
    if not isinstance(found, Mapping):
        return f"a {type(found).__name__} as {what}; expected a mapping of names to vectors"
    for name, vector in found.items():
        if not isinstance(name, str) or not isinstance(vector, np.ndarray) or vector.ndim != 1:
            return f"a {type(vector).__name__} as {what} {name!r}; expected a NumPy vector"
    return None


RETURNS: Mapping[str, Complaint] = {
    "fields": _fields,
    "client_state": _client_state,
    "init": _init,
    "server": _server,
}
"""What is wrong with a value of each method."""
