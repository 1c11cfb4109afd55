"""`raysim compare`: runs of several seeds beside each other."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raysim.cli import printing
from raysim.cli.app import app, examples
from raysim.cli.json_outputs import emit
from raysim.cli.options import Json

if TYPE_CHECKING:
    from raysim.tracking.report.groups import Compared


class Where(StrEnum):
    """Where in each run its metric is read."""

    LAST = "last"
    BEST = "best"


class Form(StrEnum):
    """What the table is written as."""

    TEXT = "text"
    MARKDOWN = "markdown"
    LATEX = "latex"


@app.command(
    short_help="Compare runs: means over seeds, and what is more than seeds.",
    epilog=examples(
        "raysim compare runs/*",
        "raysim compare runs/fedavg-* runs/fedprox-* --metric test/accuracy --picture accuracy.pdf",
        "raysim compare runs/* --at best --format latex",
    ),
)
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", show_default=False, help="Run directories.")],
    metric: Annotated[
        str | None, typer.Option(help="A column of rounds.parquet; by default what the first run is judged by.")
    ] = None,
    at: Annotated[Where, typer.Option(help="The metric's last or best value in each run.")] = Where.LAST,
    form: Annotated[Form, typer.Option("--format", help="What the table is written as.")] = Form.TEXT,
    picture: Annotated[
        Path | None, typer.Option(show_default=False, help="A picture of means and intervals: .png, .svg or .pdf.")
    ] = None,
    json: Json = False,
) -> None:
    """Compare runs; those that differ in their seeds alone are one group, with a mean and a 95 % interval.

    Each group is set against the first: by the differences on common seeds where there are two or more, otherwise by
    Welch's interval. A difference whose interval excludes 0 is more than seeds.
    """
    from raysim.tracking.report.groups import compare as compared

    found = compared(runs, metric, at.value)
    drawn = None
    if picture is not None:
        from raysim.tracking.report.bands import write_bands

        drawn = write_bands(found, picture)
    if json:
        from raysim.cli.json_outputs.past import CompareOutput

        emit(CompareOutput.of(found, drawn))
        return
    _print(found, form)
    if drawn is not None:
        typer.echo(drawn)


def _print(found: Compared, form: Form) -> None:
    head, rows = found.head, list(found.rows("$\\pm$" if form is Form.LATEX else "±"))
    if form is Form.MARKDOWN:
        for row in (head, ["---", "---:", "---:", "---:", "---"], *rows):
            typer.echo("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |")
    elif form is Form.LATEX:
        typer.echo("\\begin{tabular}{lrrrl}\n\\hline")
        for number, row in enumerate((head, *rows)):
            typer.echo(" & ".join(map(_latex, row)) + r" \\" + ("\n\\hline" if number == 0 else ""))
        typer.echo("\\hline\n\\end{tabular}")
    else:
        printing.table({head[0]: "left", head[1]: "right", head[2]: "right", head[3]: "right", head[4]: "left"}, rows)


def _latex(cell: str) -> str:
    return cell if "$" in cell else "".join(f"\\{letter}" if letter in "&%#_{}" else letter for letter in cell)
