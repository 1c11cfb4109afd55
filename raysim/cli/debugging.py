"""`raysim debug`: one client of one round again, in this process."""

from __future__ import annotations

import bdb
import sys
import traceback
from typing import Annotated

import typer

from raysim.cli.app import Debug, app, examples
from raysim.cli.handed_over import DataOption, LossOption, ModelOption, handed_over
from raysim.cli.json_outputs import emit
from raysim.cli.options import Json, Run
from raysim.errors import RaysimError


@app.command(
    short_help="Train one client of a round again in this process.",
    epilog=examples(
        "raysim debug runs/quickstart-20250102-030405 --client 17 --round 3",
        "raysim debug runs/quickstart-20250102-030405 --client 17 --round 3 --pdb",
    ),
)
def debug(
    run: Run,
    client: Annotated[int, typer.Option(help="Client of the round's cohort.")],
    round: Annotated[int, typer.Option(help="Round, from 1; it need not have been reached.")],
    pdb: Annotated[
        bool, typer.Option("--pdb", help="Run under pdb: stop before the first step, and where an error is raised.")
    ] = False,
    model: ModelOption = None,
    data: DataOption = None,
    loss: LossOption = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Train one client of a round again in this process, so that an error shows its own traceback.

    The state before the round comes from the nearest checkpoint, or from the start, and from computing the rounds in
    between again. The run directory is only read.
    """
    from raysim.debugging import debug as train

    try:
        found = train(
            run,
            client=client,
            round=round,
            debugger=pdb,
            **handed_over(model, data, loss),
            tell=lambda text: typer.echo(text, err=True),
        )
    except bdb.BdbQuit:
        raise typer.Exit(1) from None
    except RaysimError as error:
        if error.__cause__ is not None and not debug:
            traceback.print_exception(error.__cause__, file=sys.stderr)
            error.users = False  # its traceback is there already
        raise
    if json:
        emit(found)
        return
    for line in found.different:
        typer.echo(f"warning: {line}: the bits may not be those of the run", err=True)
    if found.contract is not None:
        typer.echo(f"warning: {found.contract}", err=True)
    typer.echo(
        f"client {client}, round {round}: {found.samples} samples, {found.steps} steps, loss {found.loss:.4g}, "
        f"{found.seconds:.3g} s; "
        + ("no error here" if found.dropped is None else f"its update would be left out: {found.dropped}")
    )
