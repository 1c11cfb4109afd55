"""`raysim completion`: the script that has a shell complete commands, configurations and keys."""

from __future__ import annotations

import os
from enum import StrEnum
from typing import Annotated

import typer

from raysim.cli.app import app, examples
from raysim.cli.json_outputs import answer
from raysim.cli.json_outputs.files import CompletionOutput
from raysim.cli.options import Json

VARIABLE = "_RAYSIM_COMPLETE"
"""The variable of the environment by which a shell asks for completions."""


class Shell(StrEnum):
    """Shells that can be completed in."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


@app.command(
    short_help="Print the script that has a shell complete commands.",
    epilog=examples(
        'eval "$(raysim completion bash)"       # in ~/.bashrc',
        'eval "$(raysim completion zsh)"        # in ~/.zshrc, after compinit',
        "raysim completion fish > ~/.config/fish/completions/raysim.fish",
    ),
)
def completion(
    shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")], json: Json = False
) -> None:
    """Print the script that has SHELL complete commands, options, bundled configurations and keys."""
    from typer.completion import get_completion_script  # type: ignore[attr-defined]  # typer's, not listed in `__all__`

    script = get_completion_script(prog_name="raysim", complete_var=VARIABLE, shell=shell.value)
    answer(CompletionOutput(shell.value, script), script, json=json)


def prepare_completion() -> None:
    """Have the application answer a shell that asks for completions."""
    if VARIABLE in os.environ:
        from typer.completion import completion_init  # type: ignore[attr-defined]  # as above

        completion_init()
