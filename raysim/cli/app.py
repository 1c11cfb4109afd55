"""The application that every family of commands registers with, and how errors reach the terminal."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from raysim import __version__
from raysim.cli.exit_codes import USER_ERROR
from raysim.cli.json_outputs import ErrorDetails, ErrorOutput, emit
from raysim.cli.signals import exit_code, terminable
from raysim.errors import LostError, RaysimError


def examples(*lines: str) -> str:
    """The epilog of a command's help; `\\b` keeps its lines as they are."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])


_UsageError: Any = typer.BadParameter.__base__
"""Wrong options and arguments; typer brings a click of its own, or takes the one that is installed."""
_DEBUG, _JSON = "raysim.debug", "raysim.json"


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


def _details(error: RaysimError) -> ErrorDetails:
    """The same for a program."""
    return ErrorDetails(
        type=type(error).__name__,
        messages=tuple(str(error).splitlines()),
        exit_code=USER_ERROR,
        notes=tuple(getattr(error, "__notes__", ())),
        client=error.client,
        round=error.round,
        own_code=error.users,
    )


class Commands(TyperGroup):
    """Shows an error of raysim's own as one line, without a traceback; with `--json` also as a line of JSON."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Keep in mind whether a program will read the output: also where the options are wrong."""
        ctx.meta[_JSON] = "--json" in args
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; errors that are not raysim's own keep their traceback."""
        try:
            with terminable():
                return super().invoke(ctx)
        except RaysimError as error:
            _show(error, debug=ctx.meta.get(_DEBUG))
            _emit(ctx, _details(error))
            if isinstance(error, LostError):
                sys.stdout.flush()
                os._exit(USER_ERROR)  # a normal exit would wait for ever: Ray's threads wait for the dead process
            raise typer.Exit(USER_ERROR) from None
        except _UsageError as error:  # typer shows it
            _emit(ctx, ErrorDetails("UsageError", (error.format_message(),), error.exit_code))
            raise
        except KeyboardInterrupt as error:
            said = str(error) or "interrupted"
            typer.echo(said, err=True)
            _emit(ctx, ErrorDetails("Interrupted", (said,), exit_code(error)))
            raise typer.Exit(exit_code(error)) from None


def _emit(ctx: Any, details: ErrorDetails) -> None:
    if ctx.meta[_JSON]:
        emit(ErrorOutput(details))


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
