"""`raysim init`: a project of one's own to start from."""

from __future__ import annotations

import difflib
import shutil
from pathlib import Path
from typing import Annotated

import typer

from raysim.cli.app import app, examples
from raysim.cli.json_outputs import emit
from raysim.cli.json_outputs.files import InitOutput
from raysim.cli.options import Json
from raysim.errors import ConfigError
from raysim.files import looked_up, remove, storing

TEMPLATES = {
    "torch": "a torch module and arrays of your own",
    "tabular": "a CSV table with a column of owners",
    "text": "a language model on texts with authors",
    "lora": "low-rank adapters over a frozen transformer; needs raysim-fl[llm]",
}
"""Every template, and what it is."""

_FILES = Path(__file__).parent / "templates"
_START = "raysim run experiment.yaml"
_COMMON = "common"
"""Files that every project gets."""


@app.command(
    short_help="Make a small project that runs.",
    epilog=examples(
        "raysim init",
        "raysim init tabular clinics",
        "cd clinics && raysim run experiment.yaml",
    ),
)
def init(
    template: Annotated[str, typer.Argument(metavar="TEMPLATE", help=f"One of {', '.join(TEMPLATES)}.")] = "torch",
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="FOLDER", show_default=False, help="Where it goes; by default a folder of this name."),
    ] = None,
    json: Json = False,
) -> None:
    """Make a small project that runs: configuration, model, data and a test, each to be replaced by yours."""
    if template not in TEMPLATES:
        close = difflib.get_close_matches(template, TEMPLATES, n=1)
        remedy = f"did you mean {close[0]!r}?" if close else f"valid are {', '.join(TEMPLATES)}"
        raise ConfigError(f"unknown template {template!r}; {remedy}")
    place = folder if folder is not None else Path(template)
    made = make_project(template, place)
    if json:
        emit(InitOutput(template, made, _START))
        return
    typer.echo(made)
    typer.echo(f"next: cd {place} && {_START}", err=True)


def make_project(template: str, folder: Path) -> Path:
    """Write the files of a template into a folder that is missing or empty, and return it.

    Raises:
        ConfigError: there is something in the folder.
        StorageError: the disk refuses.
    """
    from raysim.tracking.vacancy import is_vacant

    place = looked_up(folder)
    with storing(folder, "cannot make the project"):
        if not is_vacant(place):
            raise ConfigError(f"{folder}: exists already and is not empty; choose another folder")
        made = not place.exists()
        try:
            for source in (_FILES / _COMMON, _FILES / template):
                shutil.copytree(source, place, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        except OSError:
            if made:
                remove(place)
            raise
    return folder
