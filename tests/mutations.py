"""Keyed mutations of configurations and of files: the same number gives the same mutation, on every machine."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import cache
from typing import Any

from sections import Component, components, required

from raysim.config import Experiment
from raysim.config.base import Section

NUMBERS: tuple[Any, ...] = (
    0, 1, 2, 3, 7, -1, -(2**63), 10**6, 10**9, 10**9 + 1, 10**21, 10**400,
    0.0, -0.0, 0.5, 1.0, 1e-300, 5e-324, 0.999999, 1e6, 1e38, -1e38, 1e300, float("inf"), float("nan"),
)  # fmt: skip
TEXTS: tuple[Any, ...] = (
    "", " ", "x", "auto", "full", "a:b", "os:getcwd", "json:loads", "math:pi", "no.such:thing", "9" * 300, "none",
    "test/accuracy", "total/bytes", "../..", "/dev/null", "/nowhere/x", "s3://b/x", "x" * 5000, "\u2028\x00\x1b[31m",
    "\ud800",
)  # fmt: skip
SHAPES: tuple[Any, ...] = (
    None, True, False, [], {}, [[]], [None], [0], [1, 1], [0.5, 2], ["a", "a"], ["standardise", "standardise"],
    ["one_hot"], {"a": 1}, {0: 1}, {0: 0.0}, {"name": "x"}, {"name": None}, {"name": ["x"]},
    {"name": "a:b", "args": {"x": []}}, {"low": 0, "high": 0}, {"choices": []}, {"choices": [1, "a", None]},
)  # fmt: skip
VALUES = NUMBERS + TEXTS + SHAPES
"""What a key may be set to."""

BASE: dict[str, Any] = {
    "rounds": 2,
    "cohort": 3,
    "data": {"partition": {"name": "iid", "clients": 6}},
    "client": {"steps": 1, "batch_size": 8},
    "training": {"engine": "sequential"},
    "execution": {"executor": "inprocess"},
    "tracking": {"report": False},
}
COMPONENTS = [one for one in components() if one.tag not in ("in_memory", "resnet18_gn")]


def mutated_config(number: int) -> dict[str, Any]:
    """A small experiment with another component in one of its places, and one to three keys of hostile values."""
    chance = random.Random(number)
    values: dict[str, Any] = _copied(BASE)
    for _ in range(chance.choice((0, 1, 1, 2))):
        _merge(values, _chosen(chance.choice(COMPONENTS), chance))
    for _ in range(chance.choice((0, 1, 1, 2, 3))):
        path, section = _place(Experiment, chance)
        key = chance.choice(list(section.model_fields))
        _merge(values, _nested((*path, key), _value(section, key, chance)))
    return values


def mutated_bytes(content: bytes, number: int) -> bytes:
    """The content with some bytes flipped, cut out, doubled, or put in the place of others."""
    chance = random.Random(number)
    changed = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 5))):
        at, length = chance.randrange(len(changed) + 1), chance.choice((1, 1, 2, 4, 8, 100))
        kind = chance.randrange(6)
        if kind == 0:
            changed[at : at + length] = bytes(chance.randrange(256) for _ in range(length))
        elif kind == 1:
            del changed[at : at + length]
        elif kind == 2:
            changed[at:at] = changed[at : at + length]
        elif kind == 3:
            changed[at : at + length] = chance.choice((b"\0", b"\xff", b"\x7f", b"\x80")) * length
        elif kind == 4 and changed:
            changed[at % len(changed)] ^= 1 << chance.randrange(8)
        else:
            del changed[at if at > 16 else len(changed) // 2 :]
    return bytes(changed)


def _chosen(component: Component, chance: random.Random) -> dict[str, Any]:
    fields = [key for key in component.section.model_fields if key != "name"]
    own = {key: _value(component.section, key, chance) for key in fields if chance.random() < 0.3}
    return component.within({**required(component.section), "name": component.name, **own})


def _value(section: type[Section], key: str, chance: random.Random) -> Any:
    """Mostly a value at or near the ends of what the key takes, now and then any."""
    suited = list(_suited(_schema(section).get("properties", {}).get(key, {})))
    return chance.choice(suited) if suited and chance.random() < 0.85 else chance.choice(VALUES)


@cache
def _schema(section: type[Section]) -> Any:
    return section.model_json_schema()


def _suited(schema: Any) -> Iterator[Any]:
    """Values that a part of a JSON schema allows: the ends of its range, and a few between."""
    for option in schema.get("anyOf", ()):
        yield from _suited(option)
    yield from schema.get("enum", ())
    kind = schema.get("type")
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    if "const" in schema:
        yield schema["const"]
    elif "enum" in schema or (None in (low, high) and kind in ("integer", "number")):
        pass
    elif kind == "integer":
        yield from (low, low + 1, high, *(n for n in (0, 1, 2, 5, 1000) if low <= n <= high))
    elif kind == "number":
        between = (5e-324, 1e-30, 1e-3, 0.5, 1.0, 3.0, 1e6, 1e30)
        yield from (float(low), float(high), *(x for x in between if low < x < high))
    elif kind == "boolean":
        yield from (True, False)
    elif kind == "null":
        yield None
    elif kind == "array":
        each = list(_suited(schema.get("items", {})))
        yield from ([], *([one] for one in each), each[:3])


def _place(section: type[Section], chance: random.Random) -> tuple[tuple[str, ...], type[Section]]:
    """A section at any depth, by its path."""
    below = [
        (key, field.annotation)
        for key, field in section.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
    ]
    if not below or chance.random() < 0.15:
        return (), section
    key, chosen = chance.choice(below)
    path, found = _place(chosen, chance)
    return (key, *path), found


def _nested(path: tuple[str, ...], value: Any) -> Any:
    for key in reversed(path):
        value = {key: value}
    return value


def _merge(into: dict[str, Any], values: dict[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict) and "name" not in value:
            _merge(into[key], value)
        else:
            into[key] = value


def _copied(value: Any) -> Any:
    return {key: _copied(part) for key, part in value.items()} if isinstance(value, dict) else value
