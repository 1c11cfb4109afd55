"""Command lines of raysim, run in this process."""

from __future__ import annotations

from functools import cache
from typing import Any
from unittest.mock import patch

from typer import main, testing
from typer.testing import CliRunner, Result

from raysim.cli import app


@cache
def _command(app: Any) -> Any:
    """The application's command, which typer would make anew for each command line."""
    return main.get_command(app)


def invoke(*arguments: str, input: str | None = None) -> Result:
    """What this command line prints, and its exit code."""
    with patch.object(testing, "_get_command", _command):
        return CliRunner().invoke(app, list(arguments), input=input)
