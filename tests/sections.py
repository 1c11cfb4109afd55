"""Walks the experiment's schema, so that a new component or key is tested without being listed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import Tag
from pydantic.fields import FieldInfo

from raysim.config import Experiment
from raysim.config.base import Section
from raysim.config.compression import CompressStageConfig, DownlinkStageConfig
from raysim.config.hugging_face import HuggingFaceConfig
from raysim.config.partition import LabelSharesPartitionConfig
from raysim.config.systems import TiersFleetConfig
from raysim.config.transforms import DatesConfig

IMPORT_STRING = "some.package:thing"
_SPECIAL: dict[type[Section], dict[str, Any]] = {
    CompressStageConfig: {"codec": "int8"},
    DatesConfig: {"columns": ["when"]},
    DownlinkStageConfig: {"codec": "int8"},
    HuggingFaceConfig: {"config": {"model_type": "gpt2"}},  # one of three keys
    LabelSharesPartitionConfig: {"shares": [0.25, 0.75]},
    TiersFleetConfig: {"tiers": [{"share": 1.0, "speed": 1.5}]},
}
"""Values for what is required and no plain number or text."""


@dataclass(frozen=True)
class Component:
    """One alternative of a section that is chosen by name."""

    path: tuple[str, ...]
    tag: str
    section: type[Section]
    many: bool
    """Whether the key takes a list of components."""

    @property
    def name(self) -> str:
        """What a user writes."""
        return IMPORT_STRING if self.tag == "custom" else self.tag

    def within(self, value: Any) -> dict[str, Any]:
        """An experiment's mapping with this value at the component's place."""
        nested: Any = [value] if self.many else value
        for key in reversed(self.path):
            nested = {key: nested}
        return nested

    def of(self, experiment: Experiment) -> Any:
        """What an experiment has at the component's place."""
        value: Any = experiment
        for key in self.path:
            value = getattr(value, key)
        return value[0] if self.many else value

    def __str__(self) -> str:
        return f"{'.'.join(self.path)}={self.tag}"


def sections(section: type[Section] = Experiment) -> set[type[Section]]:
    """Every section that an experiment may contain, at any depth."""
    found = {section}
    for field in section.model_fields.values():
        for below in _parts(field.annotation):
            if isinstance(below, type) and issubclass(below, Section):
                found |= sections(below)
    return found


def components(section: type[Section] = Experiment, path: tuple[str, ...] = ()) -> Iterator[Component]:
    """Every alternative of every key that chooses by name."""
    for key, field in section.model_fields.items():
        here = (*path, key)
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from components(field.annotation, here)
        for part in _parts(field.annotation, annotated=True):
            tag = next((str(extra.tag) for extra in part.__metadata__ if isinstance(extra, Tag)), None)
            if tag is not None:
                yield Component(here, tag, part.__origin__, getattr(field.annotation, "__origin__", None) is tuple)


def required(section: type[Section]) -> dict[str, Any]:
    """Values for the keys without a default."""
    if section in _SPECIAL:
        return _SPECIAL[section]
    return {key: _any_value(field) for key, field in section.model_fields.items() if field.is_required()}


def _any_value(field: FieldInfo) -> Any:
    return {str: "word", float: 1.5, int: 3}.get(field.annotation, {3: 1.5})


def _parts(annotation: Any, *, annotated: bool = False) -> Iterator[Any]:
    if hasattr(annotation, "__metadata__") == annotated:
        yield annotation
    for part in get_args(annotation):
        yield from _parts(part, annotated=annotated)
