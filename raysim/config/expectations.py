"""What a key expects, in words, from its annotation: for keys that take values of several kinds."""

from __future__ import annotations

import math
import types
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from raysim.config.base import IMPORT_STRING
from raysim.config.bounds import REAL, WHOLE

_BOUNDS = {"ge": "of at least", "gt": "above", "le": "at most", "lt": "below"}
_KINDS: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
_PATTERNS = {IMPORT_STRING: "`package.module:name`", r"^[\w.-]+$": "letters, digits, `.`, `-` and `_`"}


def kinds(annotation: Any) -> tuple[Any, ...]:
    """Members of a union, of which a value must be one; none where there is but one, or one and null."""
    members = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else ()
    return members if len(set(members) - {type(None)}) > 1 else ()


def in_words(members: Sequence[Any], value: Any = None) -> str:
    """`a whole number of at least 1, or 'full'`; the limits of every number where the value is beyond them."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    *others, last = (_in_words(member, abs(value) if number else 0) for member in members)
    return f"{', '.join(others)}, or {last}" if others else last


def words(members: Sequence[Any]) -> tuple[str, ...]:
    """The words that stand for themselves among the members of a union: `auto`, `full`, names."""
    return tuple(
        word for one in members if get_origin(one) is Literal for word in get_args(one) if isinstance(word, str)
    )


def only_text(members: Sequence[Any]) -> bool:
    """Whether every member is text: names, and import strings."""
    return all(get_origin(one) is Literal or _inner(one) is str for one in members)


def pattern_in_words(pattern: str) -> str:
    """What a pattern asks for; itself where there are no words for it."""
    return _PATTERNS.get(pattern, f"text that matches {pattern}")


def _inner(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _in_words(annotation: Any, magnitude: float) -> str:
    if annotation is type(None):
        return "null"
    if get_origin(annotation) is Literal:
        return ", ".join(repr(word) for word in get_args(annotation))
    constraints = [
        constraint
        for field in getattr(annotation, "__metadata__", ())
        for constraint in getattr(field, "metadata", (field,))
    ]
    patterns = [one.pattern for one in constraints if getattr(one, "pattern", None)]
    if patterns:
        return pattern_in_words(patterns[0])
    inner = _inner(annotation)
    limit = {int: WHOLE, float: REAL}.get(inner, math.inf)
    bounds = [
        f"{text} {getattr(one, key):g}" for one in constraints for key, text in _BOUNDS.items() if hasattr(one, key)
    ]
    if magnitude > limit:
        bounds.append(f"at most {limit:g}")
    return " ".join([_KINDS.get(inner, getattr(inner, "__name__", str(inner))), " and ".join(bounds)]).rstrip()
