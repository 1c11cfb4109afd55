"""Comparing configurations key by key: for a resume, and for the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from raysim.config import Experiment
from raysim.config.parsing import as_yaml

ABSENT = "(absent)"
_SHOWN = 3


class Difference(NamedTuple):
    """A dotted key whose values differ; `ABSENT` where one side does not have it."""

    key: str
    left: Any
    right: Any


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections as dotted keys; lists and empty sections stay values."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{path}.")
        else:
            flat[path] = value
    return flat


def differences(
    left: Mapping[str, Any], right: Mapping[str, Any], *, ignore: Sequence[str] = ()
) -> tuple[Difference, ...]:
    """Keys of two nested configurations whose values differ, in order; keys at or below `ignore` do not count."""
    a, b = flatten(left), flatten(right)
    return tuple(
        Difference(key, a.get(key, ABSENT), b.get(key, ABSENT))
        for key in dict.fromkeys([*a, *b])
        if a.get(key, ABSENT) != b.get(key, ABSENT) and not any(f"{key}.".startswith(f"{own}.") for own in ignore)
    )


def in_words(found: Sequence[Difference]) -> str:
    """The first differences in a sentence, of a recorded configuration from the one that is asked for."""
    shown = ", ".join(f"{key} is {_brief(own)} there and {_brief(new)} here" for key, own, new in found[:_SHOWN])
    return shown + (f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")


def chosen_keys(experiment: Experiment) -> frozenset[str]:
    """Dotted keys whose values differ from the defaults: those of raysim, or of the component that was chosen."""
    chosen = set(flatten(experiment.model_dump(mode="json", exclude_defaults=True)))
    defaults = flatten(Experiment().to_dict())
    resolved = flatten(experiment.to_dict())
    # A component's own name is its default, so the dump leaves it out where the choice itself is the difference.
    chosen |= {key for key, value in resolved.items() if key.endswith(".name") and defaults.get(key) != value}
    return frozenset(chosen & resolved.keys())


def _brief(value: Any) -> str:
    text = as_yaml(value, one_line=True)
    return text if len(text) <= 40 else f"{text[:37]}…"
