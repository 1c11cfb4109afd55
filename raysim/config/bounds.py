"""Finite bounds for everything that a configuration holds: no field can forget them.

`Section` passes the core schema of each of its subclasses through `bounded`. A field states the bounds that its meaning
asks for (`Field(ge=1, le=10_000)`); what it leaves open is closed here. The JSON schema shows both.
"""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Annotated, Any

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError, core_schema

from raysim.config.showing import holds_secret, shown

WHOLE = 10**9
"""Largest whole number, either way; it fits 32 bits."""
REAL = 1e38
"""Largest other number, either way: its square does not overflow float64, nor itself float32."""
SEED = 2**63 - 1
"""Largest seed, and largest whole number of a value that the schema knows nothing of: a time, a number of bytes."""
BYTES = 10**15
"""Largest number of bytes: a petabyte."""
UNITS = 1_000_000
"""Largest number of units, channels, features or classes; what is made of several of them is estimated beside."""
SECONDS = 1e8
"""Longest time: three years. Python's own waits take a hundred times that."""
TEXT = 4096
"""Characters of a text: the longest path on Linux."""
ENTRIES = 1_000_000
"""Entries of a list or mapping."""
_DEPTH, _VALUES = 40, 100_000
"""Lists and mappings within each other, and values in all, of what the schema knows nothing of."""

_NUMBERS: dict[str, dict[str, float]] = {"int": {"ge": -WHOLE, "le": WHOLE}, "float": {"ge": -REAL, "le": REAL}}
_LENGTHS = {"str": TEXT, "list": ENTRIES, "tuple": ENTRIES, "dict": ENTRIES}
_OPPOSITE = {"ge": "gt", "le": "lt"}


def bounded(schema: Any, owner: type[Any]) -> Any:
    """The core schema of `owner` with bounds wherever it has none; sections within it have theirs already."""
    if not isinstance(schema, dict):
        return type(schema)(bounded(part, owner) for part in schema) if isinstance(schema, list | tuple) else schema
    kind = schema.get("type")
    if kind == "model" and schema["cls"] is not owner:
        return schema
    keep = ("metadata", "default", "serialization")
    closed = {key: part if key in keep else bounded(part, owner) for key, part in schema.items()}
    if kind in _LENGTHS and isinstance(kind, str):
        closed.setdefault("max_length", _LENGTHS[kind])
    if kind in _NUMBERS and isinstance(kind, str):
        for side, bound in _NUMBERS[kind].items():
            if _OPPOSITE[side] not in closed:
                closed.setdefault(side, bound)
        return core_schema.no_info_before_validator_function(_no_boolean, closed)
    if kind == "literal" and all(type(one) is int for one in schema["expected"]):
        return core_schema.no_info_before_validator_function(_no_boolean, closed)
    if kind == "str":
        return core_schema.no_info_after_validator_function(_text, closed)
    return closed


def _no_boolean(value: Any) -> Any:
    """`rounds: true` would be one round."""
    if isinstance(value, bool):
        raise PydanticCustomError("number_expected", "expected a number")
    return value


def _text(text: str) -> str:
    """No path and no name has a NUL byte."""
    if "\0" in text:
        raise ValueError("the text contains a NUL byte; take it out")
    return _no_secret(text)


def _no_secret(text: str) -> str:
    """A secret in a URL would stand in every `config.yaml`, report and log."""
    if holds_secret(text):
        raise ValueError(
            "the URL holds a password, key or token, which every run would record; take it out and give it through the "
            "environment (RAYSIM_STORAGE_PASSWORD for tuning.storage; see docs/security.md)"
        )
    return text


class _Plain:
    """Makes a value of plain ones: lists of tuples, Python's numbers of NumPy's; counts them, for lists in lists."""

    def __init__(self, text_keys: bool) -> None:
        self._text_keys, self._left = text_keys, _VALUES

    def of(self, value: Any, depth: int = 0) -> Any:
        self._left -= 1
        if depth > _DEPTH or self._left < 0:
            raise ValueError(
                f"more than {_DEPTH} lists and mappings within each other, or than {_VALUES:,} values in all"
            )
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, Integral):
            return _within(int(value), SEED)
        if isinstance(value, Real):
            return _within(float(value), REAL)
        if isinstance(value, str):
            return _no_secret(_short(value))
        if isinstance(value, list | tuple):
            return [self.of(part, depth + 1) for part in value]
        if isinstance(value, Mapping):
            return {self._key(key): self.of(part, depth + 1) for key, part in value.items()}
        raise ValueError(
            f"a {type(value).__name__} cannot be written down; use numbers, text, true, false, null, lists and mappings"
        )

    def _key(self, key: Any) -> str:
        if isinstance(key, str):
            return _no_secret(_short(key))
        if self._text_keys or isinstance(key, bool) or not isinstance(key, Integral):
            raise ValueError(f"the key {shown(key)} is no text; quote it")
        return str(_within(int(key), SEED))


def _short(text: str) -> str:
    if len(text) > TEXT:
        raise ValueError(f"a text of {len(text):,} characters; at most {TEXT:,} are kept")
    return text


def _within(value: Any, most: float) -> Any:
    if not -most <= value <= most:
        raise ValueError(f"a number is not within -{most:g} and {most:g}")
    return value


Plain = Annotated[Any, AfterValidator(lambda value: _Plain(text_keys=False).of(value))]
"""Any value that YAML and JSON both have; a whole number as a key becomes text, as in JSON."""

Arguments = Annotated[dict[str, Any], AfterValidator(lambda value: _Plain(text_keys=True).of(value))]
"""Keyword arguments for the user's own code: plain values with text for keys, so that a resume passes the same."""
