"""`raysim verify`: a run's files against its chain, and its rounds computed again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from raysim.cli import printing
from raysim.cli.app import Debug, app, examples
from raysim.cli.exit_codes import DONE, FOUND
from raysim.cli.handed_over import DataOption, LossOption, MetricOption, ModelOption, handed_over
from raysim.cli.json_outputs import emit
from raysim.cli.options import Json, Run

if TYPE_CHECKING:
    from raysim.verifying import Verified

SHOWN = 20
"""Rounds of a table."""


@app.command(
    short_help="Compare a run with its chain, and compute rounds again.",
    epilog=examples(
        "raysim verify runs/quickstart-20250102-030405",
        "raysim verify runs/quickstart-20250102-030405 --round 17",
        "raysim verify runs/quickstart-20250102-030405 --random 3 --seed 7",
        "raysim verify runs/mine --model network:build --data data:load --loss losses:focal",
        "raysim verify runs/quickstart-20250102-030405 --all --json",
    ),
)
def verify(
    run: Run,
    round: Annotated[
        list[int] | None,
        typer.Option(help="A round to compute again, any number of times; by default the last.", show_default=False),
    ] = None,
    random: Annotated[int, typer.Option(min=0, help="So many rounds, chosen at random.", show_default=False)] = 0,
    seed: Annotated[int, typer.Option(help="By which they are chosen.")] = 0,
    all: Annotated[bool, typer.Option("--all", help="All rounds.")] = False,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Compute them although torch, the device or the processor differ.")
    ] = False,
    model: ModelOption = None,
    data: DataOption = None,
    loss: LossOption = None,
    metric: MetricOption = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Compare a run's files with its chain, compute rounds of it again in this process, and say what differs.

    A round is computed from the nearest checkpoint before it, or from the start. Exit code 0 says that all came out to
    the bit, 1 that something differs, 2 that it cannot be said here. The run directory is only read.
    """
    from raysim.verifying import verify as verified

    found = verified(
        run,
        rounds=round or (),
        random=random,
        seed=seed,
        all=all,
        anyway=anyway,
        **handed_over(model, data, loss, metric),
        tell=lambda text: typer.echo(text, err=True),
    )
    if json:
        from raysim.cli.json_outputs.verified import VerifyOutput

        emit(VerifyOutput.of(found))
    else:
        _print(found)
    raise typer.Exit(DONE if found.same else FOUND)


def _print(found: Verified) -> None:
    if found.rounds:
        rows = [(one.round, f"{one.seconds:.3f}", "yes" if one.same else "no") for one in found.rounds]
        printing.table({"round": "right", "seconds": "right", "same bits": "left"}, rows[:SHOWN])
        if len(rows) > SHOWN:
            typer.echo(
                f"and {len(rows) - SHOWN} more rounds, of which {sum(not one.same for one in found.rounds)} differ"
            )
        printing.gap()
    for difference in found.differences:
        typer.echo(f"differs: {difference.text}")
    for note in found.notes:
        typer.echo(f"note: {note}")
    of = f"rounds {found.first} to {found.last}"
    if found.same:
        count = len(found.rounds)
        again = f"{count} computed again to the same bits, {found.seconds_per_round or 0:.3f} s each" if count else ""
        typer.echo(f"verified: the files are those of the chain of {of}; {again or 'none was computed again'}")
    else:
        count = len(found.differences)
        typer.echo(f"not verified: {count} difference{'s' if count > 1 else ''} from the chain of {of}")
    typer.echo(f"link {found.link}")
