"""Arguments and options that several commands share, each declared once, and the experiment that they name."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from raysim.config import Experiment, importable
from raysim.config.bundled import bundled_configs
from raysim.errors import ConfigError
from raysim.files import looked_up


def _configs(incomplete: str) -> Iterator[str]:
    """Bundled configurations and YAML files that begin so, for the shell's completion."""
    yield from (name for name in bundled_configs() if name.startswith(incomplete))
    files = [*glob.glob(f"{glob.escape(incomplete)}*"), *glob.glob(f"{glob.escape(incomplete)}*/*.yaml")]
    yield from sorted(file for file in files if file.endswith((".yaml", ".yml")))


def _keys(incomplete: str) -> Iterator[str]:
    """Keys of the configuration's defaults that begin so, for the shell's completion."""
    from raysim.tracking.configuration import flatten

    keys = flatten(Experiment().to_dict())
    chosen = (key.removesuffix(".name") for key in keys if key.endswith(".name"))
    yield from (f"{key}=" for key in sorted({*keys, *chosen}) if key.startswith(incomplete))


Config = Annotated[
    str | None,
    typer.Argument(
        metavar="CONFIG",
        show_default=False,
        help="YAML file of the experiment, or a bundled one's name.",
        autocompletion=_configs,
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE",
        show_default=False,
        help="Change the configuration, e.g. rounds=10 model.hidden=[64]; values are YAML.",
        autocompletion=_keys,
    ),
]
Json = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON object, whose schema `raysim schema --output COMMAND` prints."),
]
JsonLines = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON object a line; `raysim schema --output COMMAND` prints their schema."),
]
Run = Annotated[Path, typer.Argument(metavar="RUN", show_default=False, help="A run directory.")]


def read_experiment(config: str | None, overrides: Sequence[str] | None, *, command: str) -> Experiment:
    """The experiment that the arguments of a command name; modules beside its file can be imported.

    Raises:
        ConfigError: there is no file, an override is malformed, or the schema refuses a value.
    """
    if config is None:
        raise ConfigError(f"no CONFIG given; try `raysim {command} quickstart`; `raysim list configs` names the others")
    if "=" in config and not looked_up(config).exists():
        raise ConfigError(
            f"{config!r} is an override, but the configuration file comes first; "
            f"try `raysim {command} quickstart {config}`"
        )
    if (file := looked_up(config)).is_file():
        importable(file.parent)
    return Experiment.from_yaml(config, overrides or ())
