"""Writes `outputs.md`, what commands print with `--json`, from the published schemas: `python docs/outputs.py`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from raysim.cli.exit_codes import EXIT_CODES
from raysim.cli.json_outputs import OUTPUTS
from raysim.cli.json_outputs.schemas import output_schema

PAGE = Path(__file__).with_name("outputs.md")

INTRODUCTION = """\
# What commands print for programs

<!-- Written by docs/outputs.py from classes in raysim/cli/json_outputs. Do not edit: run `python docs/outputs.py`. -->

Every command takes `--json`. It then prints one line of strict JSON on the standard output; `run`, `resume` and `tune`
print a line for each event, as it happens. `raysim schema --output COMMAND` prints the JSON schema (draft 2020-12) of
these lines, from which the tables below are made; a test holds what is printed against it. Every field is always there,
and there are no others. A number that is not finite is null. A later version may add fields. Metrics, phases and bytes
of a round are defined in [recorded.md](recorded.md).

## Exit codes

| code | meaning |
| --- | --- |
{codes}

With any other end, there is a traceback: a defect of raysim.

## Errors

A command that fails prints its error as a line `error: …` on the standard error and, with `--json`, as the last line of
the standard output: an object whose only key is `error`. No other output has that key.
"""

Schema = dict[str, Any]


def page() -> str:
    """The whole page."""
    codes = "\n".join(f"| {code} | {text} |" for code, text in EXIT_CODES.items())
    lines = [INTRODUCTION.format(codes=codes), *_tables(output_schema("error"))]
    commands: dict[str, list[str]] = {}
    for command, kind in OUTPUTS.items():
        commands.setdefault(kind, []).append(command)
    for same in commands.values():
        if same != ["error"]:
            lines += [f"## {', '.join(f'`raysim {command}`' for command in same)}\n", *_tables(output_schema(same[0]))]
    return "\n".join(lines).rstrip() + "\n"


def _tables(schema: Schema) -> Iterator[str]:
    """A table, or one for each kind of line."""
    definitions = schema.get("$defs", {})
    for one in schema.get("anyOf", [schema]):
        found = _resolved(one, definitions)
        yield f"{found['description']}\n"
        yield from ("| field | type | |", "| --- | --- | --- |")
        yield from _rows(found, "", definitions)
        yield ""


def _rows(schema: Schema, path: str, definitions: Schema) -> Iterator[str]:
    """The fields of an object, then those of the objects in it; `[]` is each element of a list, `.*` each value."""
    for name, field in schema["properties"].items():
        text = field.get("description", "").replace("|", "\\|")
        yield f"| `{path}{name}` | {_kind(field, definitions)} | {text} |"
        for place, below in _below(field, f"{path}{name}", definitions):
            yield from _rows(below, f"{place}.", definitions)


def _below(field: Schema, path: str, definitions: Schema) -> Iterator[tuple[str, Schema]]:
    """Objects with named fields in a field, each with its path."""
    for one in field.get("anyOf", [field]):
        found = _resolved(one, definitions)
        if "properties" in found:
            yield path, found
        elif found.get("type") == "array" and isinstance(found.get("items"), dict):
            yield from _below(found["items"], f"{path}[]", definitions)
        elif isinstance(found.get("additionalProperties"), dict):
            yield from _below(found["additionalProperties"], f"{path}.*", definitions)


def _kind(field: Schema, definitions: Schema) -> str:
    """What a field holds, in words."""
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(_kind(one, definitions) for one in field["anyOf"]))
    found = _resolved(field, definitions)
    if "enum" in found or "const" in found:
        return ", ".join(f"`{value}`" for value in found.get("enum", [found.get("const")]))
    kind = found.get("type")
    if kind is None:
        return "anything"
    if kind == "array":
        parts = found["prefixItems"] if "prefixItems" in found else [found.get("items", {})]
        return f"list of {' and '.join(dict.fromkeys(_kind(one, definitions) for one in parts))}"
    if kind == "object" and "properties" not in found:
        values = found.get("additionalProperties")
        return f"table of {_kind(values, definitions)}" if isinstance(values, dict) else "table"
    if isinstance(kind, list):  # a number, which may be null
        return kind[0]
    return {"string": "text", "boolean": "true or false"}.get(kind, kind)


def _resolved(schema: Schema, definitions: Schema) -> Schema:
    """What a reference is to, with the description that stands beside it."""
    if "$ref" not in schema:
        return schema
    target: Schema = definitions[schema["$ref"].rpartition("/")[2]]
    return target


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
