"""`raysim serve`: runs in a browser, while they go on and afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from raysim.cli.app import app, examples
from raysim.cli.json_outputs import answer
from raysim.cli.json_outputs.files import ServeOutput
from raysim.cli.options import Json


@app.command(
    short_help="Show runs in a browser while they go on.",
    epilog=examples(
        "raysim serve",
        "raysim serve runs --port 0 --json",
        "raysim serve /data/runs --host 0.0.0.0",
    ),
)
def serve(
    folder: Annotated[Path, typer.Argument(metavar="RUNS", help="The folder that the runs are in, or one run.")] = Path(
        "runs"
    ),
    host: Annotated[str, typer.Option(help="Where to listen; others than loopback need the token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for a free one.")] = 8780,
    token: Annotated[bool, typer.Option("--token", help="Ask for a token on loopback, too.")] = False,
    json: Json = False,
) -> None:
    """Show runs in a browser while they go on: curves, clients, faults, time and log, reports and comparisons.

    The page is served to this machine alone, and reads the files of RUNS alone. Ctrl-C or SIGTERM ends it. On another
    host it can be read by all who have the address with the token; put it behind SSH (`ssh -L 8780:localhost:8780`)
    rather than into an open network, for it does not encrypt.
    """
    from raysim.serving import serve as start

    with start(folder, host=host, port=port, token=token) as page:
        answer(ServeOutput(page.url, page.host, page.port, page.token, folder), page.url, json=json)
        try:
            page.wait()
        except KeyboardInterrupt:  # the way to end it
            typer.echo("stopped", err=True)
