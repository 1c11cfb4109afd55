"""`raysim run`, `resume` and `report`: what makes run directories, and what reads them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raysim.cli.app import Debug, app, examples
from raysim.cli.flower import is_app, resume_app, run_app
from raysim.cli.handed_over import DataOption, LossOption, MetricOption, ModelOption, handed_over
from raysim.cli.json_outputs import answer
from raysim.cli.json_outputs.files import ExportOutput, RebuildOutput, ReportOutput
from raysim.cli.options import Config, Json, JsonLines, Overrides, Run, read_experiment
from raysim.cli.profile import print_profile
from raysim.cli.signals import uninterrupted
from raysim.errors import ConfigError
from raysim.files import looked_up

if TYPE_CHECKING:
    from raysim.config import Experiment
    from raysim.simulation import Simulation


class ExportFormat(StrEnum):
    """What a model is written as."""

    HUGGING_FACE = "hugging_face"
    ONNX = "onnx"


Quiet = Annotated[bool, typer.Option("--quiet", help="Print only warnings, and the run directory at the end.")]
Plain = Annotated[bool, typer.Option("--plain", help="Print a line a round, also in a terminal.")]
NoReport = Annotated[bool, typer.Option("--no-report", help="Do not write report.html at the end.")]
Profile = Annotated[
    bool, typer.Option("--profile", help="Print at the end where the time of a round went; the report has it, too.")
]


@app.command(
    epilog=examples(
        "raysim run quickstart",
        "raysim run quickstart rounds=10 model.hidden=[128] execution.actors=2",
        "raysim run quickstart execution.executor=inprocess --directory runs/first --json",
        "raysim run flower:my_app nodes=100 run.num-server-rounds=10 execution.num_gpus=0.25",
    )
)
def run(
    config: Config = None,
    overrides: Overrides = None,
    directory: Annotated[
        Path | None, typer.Option(help="The run directory itself; by default a new one in tracking.directory.")
    ] = None,
    quiet: Quiet = False,
    json: JsonLines = False,
    plain: Plain = False,
    no_report: NoReport = False,
    debug: Debug = False,
    profile: Profile = False,
    seeds: Annotated[
        int, typer.Option(min=1, help="Runs, each with the next seed; `raysim compare` takes them as one group.")
    ] = 1,
) -> None:
    """Train the federation that CONFIG describes.

    Leaves a run directory with the resolved configuration, a row for every round and client, checkpoints, the model
    and a report; the last lines say where. Ctrl-C and SIGTERM save the rounds so far, and `raysim resume` goes on from
    there; before the first round they leave nothing. A second one stops at once.

    CONFIG may also be `flower:` and an app of Flower, which runs unchanged: a folder with pyproject.toml,
    package.module, or package.module:name. Its keys are nodes, seed, name, run.KEY (the app's own configuration),
    execution.KEY and tracking.KEY; `docs/flower.md` lists them.
    """
    progress = _display(quiet, json, plain, profile)
    if config is not None and is_app(config):
        changes = [*(overrides or ()), *_without_report(no_report)]
        run_app(config, changes, directory=directory, progress=progress, profile=profile, seeds=seeds)
        return
    experiment = read_experiment(config, [*(overrides or ()), *_without_report(no_report)], command="run")
    _load(progress, experiment.execution.executor)
    from raysim.simulation import Simulation

    if seeds > 1:
        experiment = _grouped(experiment, f"{experiment.name}-{time.strftime('%Y%m%d-%H%M%S')}")
    for seed in range(experiment.seed, experiment.seed + seeds):
        one = experiment if seeds == 1 else experiment.updated([f"seed={seed}"])
        place = directory if seeds == 1 or directory is None else directory / f"seed-{seed}"
        _train(partial(Simulation, one, directory=place, progress=progress), quiet=quiet, json=json, profile=profile)


@app.command(
    short_help="Continue a run after its last checkpoint.",
    epilog=examples(
        "raysim resume runs/quickstart-20250102-030405",
        "raysim resume runs/mnist-2nn-shards-20250102-030405 rounds=2000 stop.target=0.98",
        "raysim resume runs/quickstart-20250102-030405 execution.executor=inprocess",
    ),
)
def resume(
    run: Run,
    overrides: Overrides = None,
    allow_different_bits: Annotated[
        bool,
        typer.Option(
            "--allow-different-bits", help="Continue although torch, the device or the processor differ from the run's."
        ),
    ] = False,
    model: ModelOption = None,
    data: DataOption = None,
    loss: LossOption = None,
    metric: MetricOption = None,
    quiet: Quiet = False,
    json: JsonLines = False,
    plain: Plain = False,
    no_report: NoReport = False,
    debug: Debug = False,
    profile: Profile = False,
) -> None:
    """Continue a run after its last checkpoint, to the same bits as without the break.

    Only what no past round depends on may change: the sections stop, execution, tracking and tuning, evaluation.every,
    evaluation.clients_every and evaluation.local_baseline, data.cache, privacy.budget, and rounds, unless
    client.schedule is a curve over all rounds: cosine, or steps with a line or cosine to the run's end.
    Of a run of an app of Flower, only execution, tracking and run.
    """
    progress = _display(quiet, json, plain, profile)
    if (looked_up(run) / "flower.yaml").is_file():
        if model or data or loss or metric:
            raise ConfigError("--model, --data, --loss, --metric: this run is of an app of Flower; remove them")
        changes = [*(overrides or ()), *_without_report(no_report)]
        resume_app(run, changes, allow_different_bits=allow_different_bits, progress=progress, profile=profile)
        return
    _load(progress)
    from raysim.simulation import Simulation

    _train(
        lambda: Simulation.resume(
            run,
            overrides=[*(overrides or ()), *_without_report(no_report)],
            allow_different_bits=allow_different_bits,
            progress=progress,
            **handed_over(model, data, loss, metric),
        ),
        quiet=quiet,
        json=json,
        profile=profile,
    )


@app.command(
    short_help="Write the report of a run, of several, or of a study.",
    epilog=examples(
        "raysim report runs/quickstart-20250102-030405",
        "raysim report runs/fedavg runs/fedsgd --out comparison.html",
    ),
)
def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", show_default=False, help="Run directories, or a study.")
    ],
    out: Annotated[Path | None, typer.Option(help="The HTML file, or a folder for report.html.")] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Write the report of a run, of several side by side, or of a study, and print where it is.

    One HTML file that needs nothing else, and its pictures as PNG beside it. Runs need not be finished.
    """
    if len(runs) == 1 and (looked_up(runs[0]) / "study.yaml").is_file():
        from raysim.tuning.report import write_study_report

        written = write_study_report(runs[0], out)
    elif len(runs) == 1 and (looked_up(runs[0]) / "flower.yaml").is_file():
        from raysim.adapters.flower.report import write_flower_report

        written = write_flower_report(runs[0], out)
    else:
        from raysim.tracking import write_report

        written = write_report(runs, out)
    answer(ReportOutput(written), written, json=json)


@app.command(
    short_help="Write a finished run's model for other programs.",
    epilog=examples(
        "raysim export runs/smollm2_roles_lora-20250102-030405 --merged --to smollm2-roles",
        "raysim export runs/minilm_spam_lora-20250102-030405 --to spam-adapters",
        "raysim export runs/quickstart-20250102-030405 --format onnx --to quickstart.onnx",
    ),
)
def export(
    run: Run,
    to: Annotated[Path, typer.Option(help="The folder to write, or the .onnx file.", show_default=False)],
    format: Annotated[ExportFormat, typer.Option(help="What is written.")] = ExportFormat.HUGGING_FACE,
    merged: Annotated[
        bool, typer.Option("--merged", help="The whole model, adapters merged into its weights.")
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Write the model of a finished run as other programs open it, and print where it is.

    A transformer as a folder of the Hugging Face library: its adapters for `PeftModel.from_pretrained`, or with
    --merged the whole model for `from_pretrained`. With --format onnx a transformer, or any model of one input, as an
    ONNX file.
    """
    from raysim.exporting import export as write

    written = write(run, to, format=format.value, merged=merged)
    answer(ExportOutput(written, format.value, merged), written, json=json)


@app.command(
    short_help="Make the model of a fedkseed run again from scalars.",
    epilog=examples(
        "raysim rebuild runs/fedkseed_digits-20250102-030405 --to model.safetensors",
        "raysim rebuild runs/fedkseed_digits-20250102-030405 --round 10 --to round-10.safetensors",
    ),
)
def rebuild(
    run: Run,
    to: Annotated[Path, typer.Option(help="The .safetensors file to write.", show_default=False)],
    round: Annotated[
        int | None, typer.Option(help="A round with a checkpoint; by default the last of them.", show_default=False)
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Make the model of a run of fedkseed again, to the bit, from a checkpoint's scalars, and print where it is."""
    from raysim.rebuilding import write_rebuilt

    model = write_rebuilt(run, to, round=round)
    answer(RebuildOutput(model), model, json=json)


def _grouped(experiment: Experiment, group: str) -> Experiment:
    """With this group for the trackers that know groups and have none."""
    values = experiment.to_dict()
    for observer in values["tracking"]["observers"]:
        if "group" in observer:
            observer["group"] = observer["group"] or group
    return type(experiment).parse(values)


def _train(start: Callable[[], Simulation], *, quiet: bool, json: bool, profile: bool) -> None:
    """Train to the end, or to Ctrl-C; the simulation's observers say how it went."""
    simulation: Simulation | None = None
    try:
        with start() as simulation:
            simulation.run()
    except KeyboardInterrupt as error:
        if simulation is None or simulation.number == 0:
            # The run directory is gone again: it would hold nothing.
            said = "interrupted before the first round was done: there is nothing to resume"
        elif simulation.saved_round is None:
            said = "interrupted before a round was saved: there is nothing to resume"
        else:
            said = f"interrupted; continue with: raysim resume {simulation.directory}"
        error.args = (said,)
        raise
    if profile:
        print_profile(simulation.directory)
    if quiet or (not json and not sys.stdout.isatty()):  # for a program: RUN=$(raysim run quickstart)
        typer.echo(simulation.directory)


def _load(progress: str, executor: str = "inprocess") -> None:
    """Import torch and Ray, which takes seconds, and say so; Ctrl-C waits: a half-imported library may crash."""
    if "torch" not in sys.modules:
        from raysim.tracking import open_observers

        open_observers(progress).preparing("loading torch" if executor == "inprocess" else "loading torch and Ray")
    with uninterrupted():
        import raysim.simulation  # noqa: F401

        if executor == "ray":
            from raysim.cluster.runtime import import_ray

            import_ray()


def _display(quiet: bool, json: bool, plain: bool, profile: bool) -> str:
    """The built-in observer that the options ask for."""
    if quiet + json + plain > 1:
        raise ConfigError("--quiet, --json and --plain exclude each other; give one of them")
    if json and profile:
        raise ConfigError("--json and --profile exclude each other; rounds.parquet has the same as seconds/…")
    return "quiet" if quiet else "json" if json else "plain" if plain else "terminal"


def _without_report(no_report: bool) -> list[str]:
    return ["tracking.report=false"] if no_report else []
