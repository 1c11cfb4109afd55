from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
from typer.testing import Result

import raysim as package

Raysim = Callable[..., Result]

COMMANDS = (
    "run",
    "resume",
    "report",
    "serve",
    "plan",
    "list",
    "schema",
    "doctor",
    "data build",
    "data show",
    "data import",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_has_examples(raysim: Raysim, command: str) -> None:
    result = raysim(*command.split(), "--help")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    foot = lines[next(i for i, line in enumerate(lines) if line.strip() == "Examples:") + 1 :]
    assert foot
    assert foot[0].strip().startswith(f"raysim {command}")


def test_help_lists_every_command(raysim: Raysim) -> None:
    listed = raysim("--help").stdout
    assert all(f"\n  {command.split()[0]} " in listed for command in COMMANDS)


@pytest.mark.parametrize("group", [[], ["data"], ["privacy"]])
def test_what_a_command_does_is_listed_in_whole_words(raysim: Raysim, group: list[str]) -> None:
    listed = raysim(*group, "--help").stdout.partition("Commands:\n")[2].partition("\n\n")[0]
    assert len(listed.splitlines()) >= 3
    assert "..." not in listed


def test_version_is_printed(raysim: Raysim) -> None:
    assert raysim("--version").stdout == f"raysim {package.__version__}\n"


def test_help_imports_nothing_heavy() -> None:
    heavy = ("torch", "ray", "sklearn", "matplotlib", "numpy", "pyarrow", "optuna", "rich.console")
    code = f"import sys, raysim.cli; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_console_script_exits_with_the_code_of_the_command() -> None:
    code = "import sys; from raysim.cli import main; sys.argv = ['raysim', 'run', 'missing.yaml']; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "error: missing.yaml: no such file\n")
