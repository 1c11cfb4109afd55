"""`raysim tune`: a study of an experiment, with Optuna."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raysim.cli.app import Debug, app, examples
from raysim.cli.options import JsonLines, Overrides, read_experiment
from raysim.errors import ConfigError
from raysim.files import looked_up

if TYPE_CHECKING:
    from raysim.tuning.progress import StudyProgress


@app.command(
    short_help="Search for the best values of keys, by a study.",
    epilog=examples(
        "raysim tune tune_lr",
        "raysim tune tune_weights tuning.trials=100 tuning.parallel=2 --directory runs/weights",
        "raysim tune runs/weights tuning.trials=200",
    ),
)
def tune(
    config: Annotated[
        str | None,
        typer.Argument(
            metavar="CONFIG",
            show_default=False,
            help="YAML file with a `tuning` section, a bundled one's name, or a study to go on with.",
        ),
    ] = None,
    overrides: Overrides = None,
    directory: Annotated[
        Path | None,
        typer.Option(help="The study's folder; a study that lies there goes on. By default a new one."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print only the study's folder at the end.")] = False,
    json: JsonLines = False,
    debug: Debug = False,
) -> None:
    """Search for the best values of the keys that the `tuning` section of CONFIG varies.

    Every trial is a run of the experiment with other values, judged on the validation set; the experiment as it stands
    is the first. The winner runs again beside it, on fresh seeds and on the test set. Ctrl-C and SIGTERM
    keep all finished trials.
    """
    if quiet and json:
        raise ConfigError("--quiet and --json exclude each other; give one of them")
    changes = list(overrides or ())
    resumed = config is not None and _is_study(config)
    if resumed and directory is not None:
        raise ConfigError(f"{config} is a study already; leave out --directory")
    experiment = None if resumed else read_experiment(config, changes, command="tune")
    from raysim.tuning import tune as run_study

    place = Path(config) if resumed and config is not None else directory
    try:
        tuned = run_study(
            experiment, directory=place, overrides=changes if resumed else (), progress=_progress(quiet, json)
        )
    except KeyboardInterrupt as error:
        again = "".join(getattr(error, "__notes__", ()))
        error.args = (f"interrupted; {again}" if again else "interrupted before the study began",)
        raise
    if quiet:
        typer.echo(tuned.directory)


def _is_study(path: str) -> bool:
    return (looked_up(path) / "study.yaml").is_file()


def _progress(quiet: bool, json: bool) -> StudyProgress:
    from raysim.tuning.progress import JsonStudy, PlainStudy, QuietStudy

    return QuietStudy() if quiet else JsonStudy() if json else PlainStudy()
