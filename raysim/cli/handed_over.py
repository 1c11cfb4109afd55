"""Options for what a program handed over when it started a run: a run directory has no code, so it is named again."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from raysim.config import load
from raysim.errors import ConfigError
from raysim.user_code import user_code

_NAMED = "handed over in Python, as module:name"

ModelOption = Annotated[
    str | None,
    typer.Option("--model", metavar="IMPORT", help=f"The model, where it was {_NAMED}; or a function that makes it."),
]
DataOption = Annotated[
    str | None,
    typer.Option(
        "--data", metavar="IMPORT", help=f"The data, where they were {_NAMED}; or a function that makes them."
    ),
]
LossOption = Annotated[str | None, typer.Option("--loss", metavar="IMPORT", help=f"The loss, where it was {_NAMED}.")]
MetricOption = Annotated[
    list[str] | None,
    typer.Option("--metric", metavar="IMPORT", help=f"A metric that was {_NAMED}; any number of times, in order."),
]


def handed_over(
    model: str | None, data: str | None, loss: str | None, metrics: Sequence[str] | None = None
) -> dict[str, Any]:
    """The arguments of `verify`, `debug` and `Simulation.resume` that these options name, those that were given.

    Raises:
        ConfigError: no import string, or there is no such object; it names the option.
    """
    found: dict[str, Any] = {}
    if model is not None:
        found["model"] = _made(model, "--model")
    if data is not None:
        found["data"] = _made(data, "--data")
    if loss is not None:
        found["loss"] = load(loss, key="--loss")
    if metrics:
        found["metrics"] = tuple(load(one, key="--metric") for one in metrics)
    return found


def _made(target: str, option: str) -> Any:
    """The object itself, or what a function or class of this name makes without arguments."""
    found = load(target, key=option)
    if not (inspect.isroutine(found) or inspect.isclass(found)):
        return found
    with user_code(f"{option}: {target} fails", ConfigError):
        return found()
