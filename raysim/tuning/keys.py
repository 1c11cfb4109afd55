"""Keys of an experiment by their dotted path: what they take, and the experiment with other values there."""

from __future__ import annotations

import copy
import difflib
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from raysim.config import Experiment
from raysim.config.base import Section
from raysim.errors import ConfigError

Kind = Literal["integer", "number", "either", "other"]

FIXED: Mapping[str, str] = {
    "name": "it changes no result",
    "seed": "a lucky seed is no better setting; the confirmation has seeds of its own",
    "tracking": "it changes no result",
    "execution": "it changes no result",
    "tuning": "it describes the study itself",
    "evaluation": "trials would be measured differently",
    "stop": "trials would be measured differently",
    "data.seed": "trials would be measured on other samples",
    "data.source": "trials would be measured on other samples",
    "data.test": "trials would be measured on other samples",
    "data.validation": "trials would be measured on other samples",
    "data.holdout": "trials would be measured on other samples",
    "data.partition": "it is the federation that is tuned for",
    "data.imbalance": "it is the federation that is tuned for",
    "data.noise": "it is the federation that is tuned for",
    "data.cache": "it changes no result",
}
"""Keys that no study may vary, and why."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key of an experiment.

    Attributes:
        path: dotted.
        kind: which numbers it takes.
        value: what the experiment has there.
    """

    path: str
    kind: Kind
    value: Any


def find_key(experiment: Experiment, path: str) -> Key:
    """The key at a path.

    Raises:
        ConfigError: there is none, or a study may not vary it.
    """
    for fixed, why in FIXED.items():
        if f"{path}.".startswith(f"{fixed}."):
            raise ConfigError(f"tuning.space: {path}: cannot be varied, {why}; remove it")
    at: Any = experiment
    annotation: Any = Experiment
    parts = path.split(".")
    for depth, part in enumerate(parts):
        if isinstance(at, Section):
            fields = type(at).model_fields
            if part not in fields:
                raise _unknown(path, part, ".".join(parts[:depth]), sorted(fields))
            at, annotation = getattr(at, part), fields[part].annotation
        elif isinstance(at, Mapping):  # arguments of the user's own component: any name, any value
            at, annotation = at.get(part), Any
        else:
            raise ConfigError(f"tuning.space: {path}: {'.'.join(parts[:depth])} is not a section")
    return Key(path, _kind(annotation, at), at)


def changed(experiment: Experiment, values: Mapping[str, Any], *, where: str) -> Experiment:
    """The experiment with other values at some paths, set in their order.

    A section that is chosen by name is replaced whole, by its path or by that of its `name`.

    Raises:
        ConfigError: the schema refuses a value; says where.
    """
    result = copy.deepcopy(experiment.to_dict())
    for path, value in values.items():
        *above, last = path.removesuffix(".name").split(".")
        section: Any = result
        for part in above:
            below = section[part]
            if isinstance(below, str):  # a component that was just chosen by its bare name
                below = section[part] = {"name": below}
            section = below
        section[last] = copy.deepcopy(value)
    return Experiment.parse(result, where=where)


def _unknown(path: str, part: str, above: str, valid: list[str]) -> ConfigError:
    close = difflib.get_close_matches(part, valid, n=1, cutoff=0.5)
    prefix = f"{above}." if above else ""
    remedy = f"did you mean {prefix + close[0]!r}?" if close else f"valid are {', '.join(prefix + v for v in valid)}"
    return ConfigError(f"tuning.space: unknown key {path!r}; {remedy}")


def _kind(annotation: Any, value: Any) -> Kind:
    leaves = set(_leaves(annotation))
    if annotation is Any:
        leaves = {type(value)}
    integer, number = int in leaves, float in leaves
    if integer and number:
        return "either"
    return "integer" if integer else "number" if number else "other"


def _leaves(annotation: Any) -> Iterator[Any]:
    """The plain types that a value may have."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _leaves(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for part in get_args(annotation):
            yield from _leaves(part)
    elif origin is None:
        yield annotation
