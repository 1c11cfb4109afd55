"""The application that every family of commands registers with, and how errors reach the terminal."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from raysim import __version__
from raysim.cli.signals import exit_code, terminable
from raysim.errors import LostError, RaysimError

USER_ERROR = 2
"""Exit code of an error that the user can fix."""


def examples(*lines: str) -> str:
    """The epilog of a command's help; `\\b` keeps its lines as they are."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])


_DEBUG = "raysim.debug"


def _remember(ctx: typer.Context, debug: bool) -> bool:
    ctx.meta[_DEBUG] = debug  # which all commands of an invocation share
    return debug


Debug = Annotated[
    bool,
    typer.Option("--debug", callback=_remember, show_default=False, help="Show the traceback of an error."),
]
"""The option of every command that may call user code; only its callback reads the value."""


def _show(error: RaysimError, *, debug: bool | None) -> None:
    """Print an error's notes and lines; with `--debug` also its traceback, otherwise a hint at that option.

    Args:
        debug: None where the command has no `--debug`.
    """
    if debug:
        traceback.print_exception(error.__cause__ or error, file=sys.stderr)
    for note in getattr(error, "__notes__", ()):
        typer.echo(note, err=True)
    hint = " (--debug shows the traceback)" if debug is False and error.users else ""
    for line in str(error).splitlines():
        typer.echo(f"error: {line}{hint}", err=True)


class Commands(TyperGroup):
    """Shows an error of raysim's own as one line, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; errors that are not raysim's own keep their traceback."""
        try:
            with terminable():
                return super().invoke(ctx)
        except RaysimError as error:
            _show(error, debug=ctx.meta.get(_DEBUG))
            if isinstance(error, LostError):
                sys.stdout.flush()
                os._exit(USER_ERROR)  # a normal exit would wait for ever: Ray's threads wait for the dead process
            raise typer.Exit(USER_ERROR) from None
        except KeyboardInterrupt as error:
            typer.echo("interrupted", err=True)
            raise typer.Exit(exit_code(error)) from None


app = typer.Typer(
    cls=Commands,
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=examples(
        "raysim run quickstart",
        "raysim plan quickstart cohort=20",
        "raysim list algorithms",
    ),
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"raysim {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Simulate federated learning: many clients, each with data of its own, on a laptop or on a Ray cluster."""
