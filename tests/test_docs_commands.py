"""The commands in the pages exist, with these options, arguments and keys."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer
from test_docs import READ_BY_PEOPLE, ROOT, name

from raysim import Experiment
from raysim.cli import app
from raysim.config.bundled import bundled_configs
from raysim.errors import ConfigError

_BLOCK = re.compile(r"^```(console|bash)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_UNKNOWN = re.compile(r"=(mine:|\$)")
"""A value that only the reader has: a class of their own, or a variable of the shell."""
COMMAND: Any = typer.main.get_command(app)


def typed(page: Path) -> Iterator[tuple[str, str]]:
    """Every line that is to be typed, and the line after it."""
    for language, block in _BLOCK.findall(page.read_text(encoding="utf-8")):
        lines = [*block.splitlines(), ""]
        for line, after in pairwise(lines):
            if language == "bash" or re.match(r"[$>] ", line):
                yield re.sub(r"^[$>] +", "", line), after


def mentioned(page: Path) -> list[str]:
    """Every command of raysim's that a sentence or a table names."""
    return re.findall(r"`(raysim [^`\n]*)`", _FENCED.sub("", page.read_text(encoding="utf-8")))


def raysim_commands(line: str) -> Iterator[list[str]]:
    """The words after each `raysim` of a line: `bash -lc 'cd raysim && raysim run …'` has one, too."""
    line = re.split(r"\s#\s", line)[0]
    quoted = re.findall(r"""['"]([^'"]*\braysim [^'"]*)['"]""", line)
    for one in quoted or [line]:
        for part in re.split(r"&&|;|\|", one):
            if part.strip().startswith("raysim "):
                yield shlex.split(part)[1:]


def parsed(words: list[str]) -> Any:
    """The context of a command after its own parser took its words; nothing runs.

    Raises:
        Exception: there is no such command or option, or an argument is missing or one too many.
    """
    command, context = COMMAND, COMMAND.context_class(COMMAND, info_name="raysim")
    while hasattr(command, "resolve_command"):
        found, command, words = command.resolve_command(context, words)
        if hasattr(command, "resolve_command"):
            context = command.context_class(command, info_name=found, parent=context)
    return command.make_context(found, list(words), parent=context)


def problem(words: list[str], after: str = "", *, whole: bool = True) -> str:
    """Why a command is none, or its configuration does not take its keys; empty where all is well or the page says so.

    Args:
        after: the line below it, which may be its error.
        whole: all that is needed is there; a sentence may name a command or an option without its arguments.
    """
    try:
        given = parsed(words).params
    except Exception as error:
        missing = type(error).__name__ in ("MissingParameter", "BadOptionUsage")
        return "" if missing and not whole else f"{words}: {error}"
    config = given.get("config")
    if config not in bundled_configs() and (config is None or not (ROOT / config).is_file()):
        return ""
    place = ROOT / config if (ROOT / config).is_file() else config
    try:
        Experiment.from_yaml(place, [one for one in given["overrides"] or () if not _UNKNOWN.search(one)])
    except ConfigError as error:
        said = f"error: {error}".replace(f"{ROOT}/", "")
        return "" if said == after else f"{words}: {said}"
    return ""


@pytest.mark.parametrize("page", READ_BY_PEOPLE, ids=name)
def test_every_command_of_a_page_is_one(page: Path) -> None:
    found = []
    for line, after in typed(page):
        found += [problem(words, after) for words in raysim_commands(line)]
        for script in re.findall(r"python (\S+\.py)", line):
            assert (ROOT / script).is_file(), line
        for target in re.findall(r"^make (\S+)", line):
            assert f"\n{target}:" in (ROOT / "Makefile").read_text(encoding="utf-8"), line
    for line in mentioned(page):
        found += [problem(words, whole=False) for words in raysim_commands(line.rstrip(" …"))]
    assert not [one for one in found if one]
