"""`raysim schema`: the JSON schema of a configuration, or of what a command prints."""

from __future__ import annotations

from collections.abc import Mapping
from json import dumps
from pathlib import Path
from typing import Annotated, Any

import typer

from raysim.cli.app import app, examples
from raysim.cli.json_outputs import OUTPUTS, answer
from raysim.cli.json_outputs.files import SchemaOutput
from raysim.cli.options import Json
from raysim.config import Experiment
from raysim.files import storing, write_text
from raysim.outputs import SCHEMA, SCHEMA_DRAFT, SCHEMA_TITLE

_NAME = ("type", "const", "enum", "pattern")


@app.command(
    short_help="Print the JSON schema of a configuration or an output.",
    epilog=examples(
        "raysim schema",
        "raysim schema --out raysim.schema.json",
        "# yaml-language-server: $schema=raysim.schema.json   (first line of a configuration)",
        "raysim schema --output 'privacy curve'",
    ),
)
def schema(
    out: Annotated[Path | None, typer.Option(help="Write it to this file instead of printing it.")] = None,
    output: Annotated[
        str | None,
        typer.Option(
            metavar="COMMAND",
            show_default=False,
            help="The schema of what this command prints with --json; `error` is that of one that fails.",
            autocompletion=lambda incomplete: [name for name in OUTPUTS if name.startswith(incomplete)],
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Print the JSON schema of a configuration, from which editors complete YAML, or of a command's output."""
    if output is None:
        found = json_schema()
    else:
        from raysim.cli.json_outputs.schemas import output_schema

        found = output_schema(output)
    if out is not None:
        with storing(SCHEMA.check(out)):
            write_text(out, _indented(found) + "\n")
    shown = SchemaOutput(output or "experiment", found if out is None else None, out)
    answer(shown, _indented(found) if out is None else out, json=json)


def _indented(found: Mapping[str, Any]) -> str:
    return dumps(found, indent=2, ensure_ascii=False)


def json_schema() -> dict[str, Any]:
    """JSON schema of `Experiment`; a component may also be given by its bare name."""
    found = Experiment.model_json_schema()
    _allow_names(found, found["$defs"])
    return {"$schema": SCHEMA_DRAFT, **found, "title": SCHEMA_TITLE}


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
