"""`raysim serve`: runs in a browser, while they go on and afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from raysim.cli.app import app, examples


@app.command(
    epilog=examples(
        "raysim serve",
        "raysim serve runs --port 0 --json",
        "raysim serve /data/runs --host 0.0.0.0",
    )
)
def serve(
    folder: Annotated[Path, typer.Argument(metavar="RUNS", help="The folder that the runs are in, or one run.")] = Path(
        "runs"
    ),
    host: Annotated[str, typer.Option(help="Where to listen; others than loopback need the token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for a free one.")] = 8780,
    token: Annotated[bool, typer.Option("--token", help="Ask for a token on loopback, too.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the address as a JSON object.")] = False,
) -> None:
    """Show runs in a browser while they go on: curves, clients, faults, time and log, reports and comparisons.

    The page is served to this machine alone, and reads the files of RUNS alone. Ctrl-C or SIGTERM ends it. On another
    host it can be read by all who have the address with the token; put it behind SSH (`ssh -L 8780:localhost:8780`)
    rather than into an open network, for it does not encrypt.
    """
    from raysim.serving import serve as start

    with start(folder, host=host, port=port, token=token) as page:
        if json:
            from raysim.tracking.log import json_line

            facts = {"url": page.url, "host": page.host, "port": page.port, "token": page.token, "folder": str(folder)}
            typer.echo(json_line(facts))
        else:
            typer.echo(page.url)
        try:
            page.wait()
        except KeyboardInterrupt:  # the way to end it
            typer.echo("stopped", err=True)
