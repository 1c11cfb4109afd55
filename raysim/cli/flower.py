"""`raysim run flower:APP`: apps of Flower, unchanged."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from raysim.errors import ConfigError

if TYPE_CHECKING:
    from raysim.adapters.flower import FlowerSimulation
    from raysim.tracking.observers.base import Observer

PREFIX = "flower:"


def is_app(config: str | None) -> bool:
    """Whether CONFIG names an app of Flower."""
    return config is not None and config.startswith(PREFIX)


def run_app(
    config: str, overrides: Sequence[str], *, directory: Path | None, progress: str, profile: bool, seeds: int
) -> None:
    """Run the app once for each seed.

    Raises:
        RaysimError: the app cannot be found or run; one line.
    """
    if profile:
        raise ConfigError("--profile: an app of Flower has no phases that raysim could time; leave the option out")
    from raysim.config.flower import FlowerConfig

    given = FlowerConfig.parse({}, overrides, where="overrides")
    from raysim.adapters.flower import FlowerSimulation, find_app

    for seed in range(given.seed, given.seed + seeds):
        place = directory if seeds == 1 or directory is None else directory / f"seed-{seed}"
        one = given if seeds == 1 else given.model_copy(update={"seed": seed})
        observer = _observer(progress)
        with redirect_stdout(sys.stderr):
            simulation = FlowerSimulation(
                find_app(config.removeprefix(PREFIX)), one, directory=place, progress=observer
            )
        _run(lambda simulation=simulation: simulation, progress)  # type: ignore[misc]


def resume_app(
    run: Path, overrides: Sequence[str], *, allow_different_bits: bool, progress: str, profile: bool
) -> None:
    """Continue a run of an app.

    Raises:
        RaysimError: it cannot be continued; one line.
    """
    if profile or allow_different_bits:
        which = "--profile" if profile else "--allow-different-bits"
        raise ConfigError(f"{which} has no effect on a run of an app of Flower; leave it out")
    from raysim.adapters.flower import FlowerSimulation

    observer = _observer(progress)
    _run(lambda: FlowerSimulation.resume(run, overrides=overrides, progress=observer), progress)


def _run(start: Callable[[], FlowerSimulation], progress: str) -> None:
    """Run to the end, or to Ctrl-C; what the app prints goes to the standard error."""
    simulation: FlowerSimulation | None = None
    try:
        with redirect_stdout(sys.stderr):
            simulation = start()
            simulation.run()
    except KeyboardInterrupt as error:
        where = None if simulation is None else simulation.directory
        again = where is not None and (where / "replies.bin").is_file()
        error.args = (f"interrupted; continue with: raysim resume {where}" if again else "interrupted",)
        raise
    if progress == "quiet" or (progress != "json" and not sys.stdout.isatty()):
        typer.echo(simulation.directory)


def _observer(progress: str) -> str | Observer:
    """The display; one that prints JSON keeps the standard output for itself."""
    if progress != "json":
        return progress
    from raysim.tracking.observers.lines import JsonObserver

    return JsonObserver(sys.stdout)
