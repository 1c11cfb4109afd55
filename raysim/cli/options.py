"""Arguments and options that several commands share, and the experiment that they name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from raysim.config import Experiment
from raysim.errors import ConfigError
from raysim.files import looked_up

Config = Annotated[
    str | None,
    typer.Argument(metavar="CONFIG", show_default=False, help="YAML file of the experiment, or a bundled one's name."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE",
        show_default=False,
        help="Change the configuration, e.g. rounds=10 model.hidden=[64]; values are YAML.",
    ),
]
Run = Annotated[Path, typer.Argument(metavar="RUN", show_default=False, help="A run directory.")]


def read_experiment(config: str | None, overrides: Sequence[str] | None, *, command: str) -> Experiment:
    """The experiment that the arguments of a command name.

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
    return Experiment.from_yaml(config, overrides or ())
