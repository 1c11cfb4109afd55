"""JSON schemas of outputs, from the classes of `OUTPUTS` and their docstrings."""

from __future__ import annotations

import ast
import difflib
import inspect
import re
import textwrap
from dataclasses import fields, is_dataclass
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from raysim.cli.json_outputs import OUTPUTS
from raysim.config import load
from raysim.errors import ConfigError
from raysim.outputs import OUTPUT_SCHEMA_TITLE, SCHEMA_DRAFT

_ATTRIBUTES = "\n\nAttributes:\n"
_ENTRY = re.compile(r"^    (\w+(?:, \w+)*): (.*(?:\n        .*)*)", re.MULTILINE)


def output_schema(command: str) -> dict[str, Any]:
    """JSON schema of a line that a command prints with `--json`.

    Raises:
        ConfigError: there is no such command.
    """
    if command not in OUTPUTS:
        close = difflib.get_close_matches(command, OUTPUTS, n=1)
        remedy = f"did you mean {close[0]!r}?" if close else f"valid are {', '.join(OUTPUTS)}"
        raise ConfigError(f"--output: unknown command {command!r}; {remedy}")
    kind = load(OUTPUTS[command], key="--output")
    found = TypeAdapter(kind).json_schema(mode="serialization", schema_generator=_Generator)
    return {"$schema": SCHEMA_DRAFT, **found, "title": f"{OUTPUT_SCHEMA_TITLE}{command}"}


class _Generator(GenerateJsonSchema):
    """Of what is printed: every field is there, no other is, and a number that is not finite is null."""

    def dataclass_schema(self, schema: Any) -> dict[str, Any]:
        found = super().dataclass_schema(schema)
        text, texts = described(schema["cls"])
        for name, one in found["properties"].items():
            one.pop("title", None)
            one.pop("default", None)
            if name in texts:
                one["description"] = texts[name]
        found |= {"description": text, "required": list(found["properties"]), "additionalProperties": False}
        return found

    def float_schema(self, schema: Any) -> dict[str, Any]:
        return {"type": ["number", "null"]}


def described(kind: type) -> tuple[str, dict[str, str]]:
    """What the docstrings of a dataclass say of it, and of each of its fields, those of its bases included."""
    texts: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if is_dataclass(base):
            texts |= _attributes(base)
    return _sentence((inspect.getdoc(kind) or "").partition(_ATTRIBUTES)[0]), {
        field.name: texts[field.name] for field in fields(kind) if field.name in texts
    }


def _attributes(kind: type) -> dict[str, str]:
    """Texts of fields: from the section `Attributes` of the docstring, and from docstrings below the fields."""
    section = (inspect.getdoc(kind) or "").partition(_ATTRIBUTES)[2]
    found = {name: _sentence(text) for names, text in _ENTRY.findall(section) for name in names.split(", ")}
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(definition, ast.ClassDef)
    for field, text in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
            found[field.target.id] = _sentence(str(ast.literal_eval(text.value)))
    return found


def _sentence(text: str) -> str:
    """A docstring as one paragraph that begins with a capital letter."""
    words = " ".join(text.split())
    return words[:1].upper() + words[1:]
