"""`raysim runs`: the runs of a folder as a table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from raysim.cli import printing
from raysim.cli.app import app, examples
from raysim.cli.json_outputs import emit
from raysim.cli.options import Json

SHOWN = 20
NUMBERS = frozenset({"rounds", "time", "last", "best"})


@app.command(
    "runs",
    short_help="List the runs of a folder, the newest first.",
    epilog=examples(
        "raysim runs",
        "raysim runs --filter algorithm=fedprox --filter state=finished",
        "raysim runs /data/runs --limit 5 --json",
    ),
)
def past(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder that the runs are in.")] = Path("runs"),
    filters: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            metavar="KEY=VALUE",
            show_default=False,
            help="Only runs whose configuration, or state, has this value, or whose name has this text; repeatable.",
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Runs that are shown at most.")] = SHOWN,
    json: Json = False,
) -> None:
    """List the runs of a folder, the newest first: what each was, how far it came, and its last and best value."""
    from raysim.tracking import past_runs

    found = past_runs(folder, filters or ())
    shown = found[:limit]
    if json:
        from raysim.cli.json_outputs.past import ListedRun, RunsOutput

        emit(RunsOutput(tuple(ListedRun(**run.to_dict()) for run in shown), len(found)))
        return
    if not shown:
        typer.echo("no runs" + (" that pass the filters" if filters else f" in {folder}"))
        return
    rows = [run.cells() for run in shown]
    printing.table(
        {name: "right" if name in NUMBERS else "left" for name in rows[0]}, [list(row.values()) for row in rows]
    )
    if len(found) > len(shown):
        typer.echo(f"and {len(found) - len(shown)} older ones; --limit shows more")
