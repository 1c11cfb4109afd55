"""Turning pydantic's errors into one clear line each: the file, the key, what was expected."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from raysim.config.base import UNKNOWN_NAME
from raysim.config.expectations import in_words, kinds, only_text, pattern_in_words, words
from raysim.config.showing import one_line, shown
from raysim.errors import ConfigError

_BOUNDS = {"less_than_equal": "le", "less_than": "lt", "greater_than_equal": "ge", "greater_than": "gt"}


def explain(error: ValidationError, schema: type[BaseModel], where: str) -> ConfigError:
    """One line for each problem, in the order of the file."""
    found = error.errors(include_url=False)
    lines = [one_line(f"{where}: {_line(problem, schema)}") for problem in found if not _follows(problem, found)]
    return ConfigError("\n".join(dict.fromkeys(lines)))


def _follows(problem: Any, others: Sequence[Any]) -> bool:
    """Whether a list is too short only because pydantic does not count items that have problems of their own."""
    place = problem["loc"]
    return problem["type"] == "too_short" and any(
        other["loc"][: len(place)] == place and len(other["loc"]) > len(place) for other in others
    )


def _line(problem: Any, schema: type[BaseModel]) -> str:
    location = problem["loc"]
    owner, path, annotation = _follow(schema, location)
    kind, value = problem["type"], problem.get("input")
    several = kinds(annotation)
    if several and not _sections(annotation):
        return _none_of(several, path, value)
    if kind == "extra_forbidden":
        valid = sorted(owner.model_fields) if owner is not None else []
        return f"unknown key {path!r}; {_suggest(str(location[-1]), valid)}"
    if kind == "union_tag_invalid":
        names = [name.strip(" '") for name in problem["ctx"]["expected_tags"].split(",")]
        names = ["package.module:name" if name == "custom" else name for name in names if name != "in_memory"]
        return f"{path}: unknown name {shown(problem['ctx']['tag'])}; {_suggest(problem['ctx']['tag'], names)}"
    if kind == "union_tag_not_found":
        return f"{path}: expected a name, or a section with the key `name`, got {shown(value)}"
    if kind == UNKNOWN_NAME:
        return f"{path}: unknown name {shown(value)}; {_suggest(str(value), problem['ctx']['names'])}"
    if kind == "string_pattern_mismatch":
        return f"{path}: expected {pattern_in_words(problem['ctx']['pattern'])}, got {shown(value)}"
    if kind == "missing":
        return f"{path}: required key is missing"
    message = problem["msg"].removeprefix("Value error, ")
    if kind in _BOUNDS and isinstance(bound := problem["ctx"][_BOUNDS[kind]], float):
        message = f"{message.rpartition(' ')[0]} {bound:g}"  # pydantic writes all zeros of 1e38
    message = message[:1].lower() + message[1:]
    if kind == "value_error":
        return f"{path}: {message}" if path else message
    return f"{path}: {message}, got {shown(value)}"


def _none_of(members: Sequence[Any], path: str, value: Any) -> str:
    """The one line for a value that is of none of several kinds; pydantic has a problem for each of them."""
    names = words(members)
    if isinstance(value, str) and only_text(members):
        return f"{path}: unknown name {shown(value)}; {_suggest(value, [*names, 'package.module:name'])}"
    close = isinstance(value, str) and difflib.get_close_matches(value, names, n=1)
    remedy = f"; did you mean {close[0]!r}?" if close else ""
    return f"{path}: expected {in_words(members, value)}, got {shown(value)}{remedy}"


def _suggest(word: str, valid: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, valid, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"valid are {', '.join(valid)}"


def _follow(schema: type[BaseModel], location: tuple[int | str, ...]) -> tuple[type[BaseModel] | None, str, Any]:
    """The section of the location's last key, the path as a user writes it (no union tags), and what the key takes."""
    owner: type[BaseModel] | None = schema
    options: list[type[BaseModel]] = []
    path: list[str] = []
    named = False
    annotation: Any = None
    for i, part in enumerate(location):
        if named:  # a name of the user's own, below which the section lies
            named = False
            path.append(str(part))
            continue
        if isinstance(part, int):
            path.append(f"[{part}]")
            annotation = next(iter(get_args(annotation)), None)
            continue
        if options and part not in path[-1:]:
            tagged = [option for option in options if _has_tag(option, part)]
            if tagged:
                owner, options = tagged[0], []
                continue
        if owner is not None and part in owner.model_fields:
            annotation = owner.model_fields[part].annotation
            found = _sections(annotation)
            named = bool(found) and get_origin(annotation) is dict
            path.append(part)
            if i + 1 < len(location):
                owner, options = (found[0], []) if len(found) == 1 else (None, found)
            continue
        if i + 1 == len(location) and owner is not None:
            path.append(part)
    return owner, ".".join(path).replace(".[", "["), annotation


def _has_tag(section: type[BaseModel], tag: str) -> bool:
    annotation: Any = section.model_fields["name"].annotation if "name" in section.model_fields else None
    names = get_args(annotation)
    return tag in names or (tag == "custom" and not names)


def _sections(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    parts: tuple[Any, ...] = get_args(annotation)
    return [section for part in parts for section in _sections(part)]
