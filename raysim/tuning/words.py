"""What a study varies, as words: a choice may be a whole section of a configuration."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from raysim.config.parsing import as_yaml
from raysim.config.tuning import DimensionConfig, ObjectiveConfig, TuningConfig


def spoken(value: Any) -> str:
    """A value for people: `sgd, lr 0.1, momentum 0.9` for a section, four digits of a number.

    A study knows sections and lists as JSON; a text that is none stays as it is.
    """
    if isinstance(value, str) and value[:1] in ("{", "["):
        with suppress(ValueError):
            value = json.loads(value)
    if isinstance(value, Mapping):
        named = [str(value["name"])] if "name" in value else []
        return ", ".join([*named, *(f"{key} {_inner(one)}" for key, one in value.items() if key != "name")])
    if isinstance(value, list | tuple):
        return ", ".join(_inner(one) for one in value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "none" if value is None else str(value)


def asked(tuning: TuningConfig) -> Iterator[tuple[str, str]]:
    """What a study was asked for, a line for each key and each thing that it varies."""
    for key, dimension in tuning.space.items():
        yield key, _dimension(dimension)
    for objective in tuning.objective:
        yield "objective", _objective(objective)
    for key, value in tuning.to_dict().items():
        if key not in ("space", "objective") and value is not None and value != {"name": "none"}:
            yield key, spoken(value) if isinstance(value, dict) else as_yaml(value, one_line=True)


def _dimension(dimension: DimensionConfig) -> str:
    if dimension.choices is not None:
        text = " · ".join(spoken(choice) for choice in dimension.choices)
    else:
        text = f"{spoken(dimension.low)} to {spoken(dimension.high)}"
        text += ", logarithmic" if dimension.log else ""
        text += f", in steps of {spoken(dimension.step)}" if dimension.step is not None else ""
    conditions = [f"{key} is {spoken(value)}" for key, value in dimension.when.items()]
    return text + (f", when {' and '.join(conditions)}" if conditions else "")


def _objective(objective: ObjectiveConfig) -> str:
    metric = objective.metric or "the metric of the validation set"
    of = {"mean": f"mean of the last {objective.last}"}.get(objective.of, objective.of.replace("_to", " to"))
    target = "" if objective.target is None else f" {spoken(objective.target)}"
    direction = "" if objective.direction == "auto" else f", {objective.direction}d"
    return f"{metric}: {of}{target}{direction}"


def _inner(value: Any) -> str:
    text = spoken(value)
    return f"({text})" if isinstance(value, Mapping | list | tuple) and text != "none" else text
