"""Writes `reference.md`, every section and key of a configuration, from the schema: `python docs/reference.py`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from raysim.cli.catalogue import CUSTOM, IN_MEMORY, choices
from raysim.config import Experiment
from raysim.config.base import IMPORT_STRING
from raysim.config.bounds import REAL, TEXT, WHOLE
from raysim.config.descriptions import descriptions

PAGE = Path(__file__).with_name("reference.md")

INTRODUCTION = f"""\
# Configuration reference

<!-- Written by docs/reference.py from the schema in raysim/config. Do not edit: run `python docs/reference.py`. -->

Every section and key, with its type, default and meaning. How configurations are written, overridden and resolved is
in [configuration.md](configuration.md); `raysim schema` prints the same as a JSON schema, and `raysim list` the names
that can be chosen.

A key that *is chosen by name* takes a name (`model: mlp`) or a section with the key `name` and the options of that
choice (`model: {{name: mlp, hidden: [64]}}`).

Where no range is given, whole numbers are between ±{WHOLE:,} and other numbers between ±{REAL:g}; true and false are no
numbers, nor are infinity and NaN. A text has at most {TEXT:,} characters, and no text may hold a URL with a password in
it (see [security.md](security.md)).
"""

_OPEN = (None, -WHOLE, WHOLE, -REAL, REAL)
"""Ends of a range that a field does not state."""

Choices = dict[str, dict[str, type[BaseModel]]]
Schema = dict[str, Any]


def page() -> str:
    """The whole page."""
    chosen: Choices = dict(choices(Experiment))
    return "\n".join([INTRODUCTION, *_section(Experiment, "", chosen)]).rstrip() + "\n"


def _section(section: type[BaseModel], path: str, chosen: Choices) -> Iterator[str]:
    """A section's own keys, then what is below each of them."""
    yield f"## `{path}`" if path else "## Top level"
    yield ""
    yield f"{_sentence(section.__doc__)}\n"
    yield from _table(section, path, chosen)
    for key, field in section.model_fields.items():
        here = f"{path}.{key}" if path else key
        if here in chosen:
            yield from _components(here, descriptions(section)[key], chosen[here])
        elif (below := _below(field)) is not None:
            yield from _section(below, f"{here}.NAME" if _is_named(field) else here, chosen)
        elif (each := _each(field)) is not None:
            yield from _section(each, f"{here}[]", chosen)


def _components(path: str, text: str, options: dict[str, type[BaseModel]]) -> Iterator[str]:
    """The alternatives of a key that is chosen by name; names with one class have one entry."""
    yield f"## `{path}`: chosen by name\n"
    yield f"{_sentence(text)}\n"
    names: dict[type[BaseModel], list[str]] = {}
    for name, section in options.items():
        if name != IN_MEMORY:
            names.setdefault(section, []).append("package.module:name" if name == CUSTOM else name)
    for section, known in names.items():
        yield f"### {', '.join(f'`{name}`' for name in known)}\n"
        yield f"{_sentence(section.__doc__)}\n"
        yield from _table(section, path, {}, without="name")


def _table(section: type[BaseModel], path: str, chosen: Choices, *, without: str = "") -> Iterator[str]:
    schema, texts = section.model_json_schema(), descriptions(section)
    rows = []
    for key, field in section.model_fields.items():
        if key == without:
            continue
        here = f"{path}.{key}" if path else key
        if here in chosen:
            kind, default = "chosen by name" if not _is_list(field) else "list, chosen by name", _default(field)
        elif _below(field) is not None:
            kind = "sections with names of your own" if _is_named(field) else "section"
            default = "none" if field.default is None else "–"
        else:
            kind, default = _kind(schema["properties"][key]), _default(field)
        rows.append(f"| `{key}` | {kind} | {default} | {_sentence(texts.get(key)).replace('|', chr(92) + '|')} |")
    if rows:
        yield from ("| key | type | default | |", "| --- | --- | --- | --- |", *rows, "")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        value = getattr(value, "name", None)
    if isinstance(value, tuple) and any(isinstance(one, BaseModel) for one in value):
        return "as below"
    return "none" if value is None else f"`{json.dumps(value, ensure_ascii=False)}`".replace('"', "")


def _kind(schema: Schema) -> str:
    """What a key takes, in words."""
    if "anyOf" in schema:
        return " or ".join(_kind(option) for option in schema["anyOf"] if option.get("type") != "null")
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    kind = schema.get("type")
    if "$ref" in schema:
        return "section"
    if kind is None:
        return "anything"
    if kind == "array":
        return f"list of {_kind(schema['items'])}".replace("of section", "of sections")
    if kind == "object":
        values = schema.get("additionalProperties")
        return f"table of {_kind(values)}".replace("of section", "of sections") if isinstance(values, dict) else "table"
    if kind == "string":
        return "`package.module:name`" if schema.get("pattern") == IMPORT_STRING else "text"
    return {"integer": "integer", "number": "number", "boolean": "true or false"}[str(kind)] + _bounds(schema)


def _bounds(schema: Schema) -> str:
    """The range of a number: ` ≥ 1`, or ` in [0, 1)` where both ends are given."""
    low, high = (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum"))
    ends = [next(((key, schema[key]) for key in pair if schema.get(key) not in _OPEN), None) for pair in (low, high)]
    if ends[0] is not None and ends[1] is not None:
        brackets = "[" if ends[0][0] == "minimum" else "(", "]" if ends[1][0] == "maximum" else ")"
        return f" in {brackets[0]}{ends[0][1]:g}, {ends[1][1]:g}{brackets[1]}"
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    return "".join(f" {signs[key]} {value:,}" for key, value in (end for end in ends if end is not None))


def _sentence(text: str | None) -> str:
    """A docstring or description as one paragraph."""
    return " ".join((text or "").split())


def _below(field: FieldInfo) -> type[BaseModel] | None:
    """The section that a key holds; None where it holds something else."""
    annotation: Any = field.annotation
    if _is_named(field):
        annotation = get_args(annotation)[1]
    if get_origin(annotation) is UnionType:  # a section that may be left out
        annotation = next((part for part in get_args(annotation) if part is not NoneType), None)
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _is_named(field: FieldInfo) -> bool:
    """Whether the key holds sections below names of the user's own."""
    annotation: Any = field.annotation
    if get_origin(annotation) is not dict:
        return False
    value = get_args(annotation)[1]
    return isinstance(value, type) and issubclass(value, BaseModel)


def _each(field: FieldInfo) -> type[BaseModel] | None:
    """The section that each element of a list is."""
    parts = get_args(field.annotation)
    sections = [part for part in parts if isinstance(part, type) and issubclass(part, BaseModel)]
    return sections[0] if len(sections) == 1 and get_origin(field.annotation) is tuple else None


def _is_list(field: FieldInfo) -> bool:
    return getattr(field.annotation, "__origin__", None) is tuple


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
