"""What a section says of its fields: the docstrings below them, read from the source by who asks for a schema.

A run needs none of them. Pydantic would parse the source of every section wherever raysim is imported.
"""

from __future__ import annotations

import ast
import inspect
import sys
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema


def descriptions(section: type[BaseModel]) -> dict[str, str]:
    """The text of each field that has one, by key; a section has those of its bases as well."""
    texts: dict[str, str] = {}
    bases = [base for base in reversed(section.__mro__) if issubclass(base, BaseModel) and base is not BaseModel]
    for base in bases:
        texts |= _of_module(base.__module__).get(base.__qualname__, {})
    given = {key: field.description for key, field in section.model_fields.items()}
    return {key: text for key, said in given.items() if (text := said or texts.get(key))}


@cache
def _of_module(name: str) -> dict[str, dict[str, str]]:
    """By class, the docstrings below annotated names; none where the source is not at hand."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[name]))
    except (KeyError, OSError, TypeError):
        return {}
    return {node.name: _of_class(node) for node in tree.body if isinstance(node, ast.ClassDef)}


def _of_class(definition: ast.ClassDef) -> dict[str, str]:
    found = {}
    for field, below in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            text = below.value.value if isinstance(below.value, ast.Constant) else None
            if isinstance(text, str):
                found[field.target.id] = inspect.cleandoc(text)
    return found


class DescribedSchema(GenerateJsonSchema):
    """JSON schemas in which each field of a section carries its description."""

    def model_schema(self, schema: Any) -> dict[str, Any]:
        """The JSON schema of one section."""
        found = super().model_schema(schema)
        for key, text in descriptions(schema["cls"]).items():
            found["properties"][key].setdefault("description", text)
        return found
