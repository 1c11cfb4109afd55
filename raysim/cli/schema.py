"""`raysim schema`: the JSON schema of a configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from raysim.cli.app import app, examples
from raysim.config import Experiment
from raysim.files import storing, write_text
from raysim.outputs import SCHEMA, SCHEMA_TITLE

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_NAME = ("type", "const", "enum", "pattern")


@app.command(
    epilog=examples(
        "raysim schema",
        "raysim schema --out raysim.schema.json",
        "# yaml-language-server: $schema=raysim.schema.json   (first line of a configuration)",
    )
)
def schema(
    out: Annotated[Path | None, typer.Option(help="Write it to this file instead of printing it.")] = None,
) -> None:
    """Print the JSON schema of a configuration, from which editors complete and check YAML."""
    text = json.dumps(json_schema(), indent=2, ensure_ascii=False)
    if out is None:
        typer.echo(text)
    else:
        with storing(SCHEMA.check(out)):
            write_text(out, text + "\n")
        typer.echo(out)


def json_schema() -> dict[str, Any]:
    """JSON schema of `Experiment`; a component may also be given by its bare name."""
    found = Experiment.model_json_schema()
    _allow_names(found, found["$defs"])
    return {"$schema": _DRAFT, **found, "title": SCHEMA_TITLE}


def _allow_names(schema: Any, definitions: Mapping[str, Any]) -> None:
    """Wherever one of several named sections is expected, allow the name alone if the section needs nothing else."""
    if isinstance(schema, list):
        for part in schema:
            _allow_names(part, definitions)
    if not isinstance(schema, dict):
        return
    for part in schema.values():
        _allow_names(part, definitions)
    options = [definitions[option["$ref"].rpartition("/")[2]] for option in schema.get("oneOf", ()) if "$ref" in option]
    if options and all("name" in option.get("properties", {}) for option in options):
        alone = [option["properties"]["name"] for option in options if set(option.get("required", ())) <= {"name"}]
        schema["oneOf"] = [*schema["oneOf"], *({key: name[key] for key in _NAME if key in name} for name in alone)]
