"""Whatever a command line accepts has an effect, or is refused: every argument and option of every command."""

from __future__ import annotations

import itertools
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from command_lines import CommandLines, flags, parameters
from command_table import COMMANDS, EXCLUDED
from jsonschema import Draft202012Validator
from outcomes import stub_report

from raysim.cli.json_outputs import OUTPUTS
from raysim.cli.json_outputs.schemas import output_schema


def rows() -> dict[str, tuple[str, str, str]]:
    found = {}
    for line in filter(None, re.sub(r"\n +", " ", COMMANDS).splitlines()):
        parameter, *lines, shown = (part.strip() for part in line.split(" | "))
        without, given = (re.sub(r" OUT$", " --directory out", one) for one in lines)
        found[parameter] = without, given, shown
    return found


ROWS = rows()


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLines]:
    here = Path.cwd()
    with patch("raysim.tracking.recorder.write_report", stub_report):
        yield CommandLines(tmp_path_factory.mktemp("commands"))
    os.chdir(here)


@pytest.mark.parametrize("parameter", parameters())
def test_a_parameter_of_a_command_has_an_effect_or_is_refused(
    parameter: str, commands: CommandLines, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "ray" in sys.modules:  # a command has a process of its own, where no test has started Ray
        monkeypatch.setattr("ray.is_initialized", lambda: False)
    assert parameter in ROWS, f"say in tests/effects/command_table.py what shows the effect of {parameter}"
    without, given, shown = ROWS[parameter]
    found = [commands.outcome(line) for line in (without, given)]
    assert [re.search(shown, one) is None for one in found].count(True) == 1, "\n\n".join(found)


def test_no_line_is_about_a_parameter_that_is_gone() -> None:
    assert set(ROWS) <= set(parameters())


NEEDED = {
    "debug": " --client 0 --round 1",
    "privacy invert": " --client 0 --round 1",
    "privacy neighbours": " --client 0",
    "export": " --to new",
    "rebuild": " --to new.safetensors",
}
"""What a command does not start without."""
PAIRS = [(command, *pair) for command, found in flags().items() for pair in itertools.combinations(found, 2)]


@pytest.mark.parametrize(("command", "one", "other"), PAIRS)
def test_flags_that_exclude_each_other_say_so_in_one_line(
    command: str, one: str, other: str, commands: CommandLines
) -> None:
    needed = NEEDED.get(command, "")
    outcome = commands.outcome(f"{command} nowhere.yaml{needed} {one} {other}")
    before = r"(?s:.*)" if "--debug" in (one, other) else ""  # a traceback
    printed, line = re.findall(rf"\Astdout:\n(.*\n)?stderr:\n{before}(error: .*)\nexit code 2\n", outcome)[0]
    if "--json" in (one, other):
        assert valid("error", printed)
    else:
        assert not printed
    if (command, one, other) in EXCLUDED:
        assert re.fullmatch(rf"error: .*{one}\b.* {other} (and .*)?exclude each other; .*", line)
    else:
        assert line.startswith("error: nowhere.yaml: "), "both are accepted, and the next thing wrong is told"


MORE = {
    "run": ("run tiny.yaml --seeds 2 --json OUT", "run broken.yaml --json OUT"),
    "plan": ("plan private.yaml --json", "plan adapted.yaml --json", "plan systems/deadline_digits --json"),
    "privacy membership": ("privacy membership done --round 1 --json",),
    "compare": ("compare done --picture a.svg --json",),
    "list": ("list all --json",),
    "schema": ("schema --output error --json", "schema --out schema.json --json"),
    "data build": ("data build tiny.yaml --verify --json",),
    "tune": ("tune tiny.yaml tuning.confirm.seeds=2 tuning.trials=2 --json OUT",),
}
"""Other lines of which some show what the one of the table does not."""


@pytest.mark.parametrize("command", [command for command in OUTPUTS if command != "error"])
def test_what_a_command_prints_for_programs_is_as_its_published_schema_says(
    command: str, commands: CommandLines, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "ray" in sys.modules:
        monkeypatch.setattr("ray.is_initialized", lambda: False)
    for line in (ROWS[f"{command} --json"][1], *MORE.get(command, ())):
        outcome = commands.outcome(re.sub(r" OUT$", " --directory out", line))
        printed, code = re.findall(r"\Astdout:\n((?s:.*))stderr:\n(?s:.*)exit code (.*)\n", outcome)[0]
        failed = line.startswith("run broken")
        assert code == ("2" if failed else "0"), outcome
        *lines, last = printed.splitlines()
        assert valid(command, *lines)
        assert valid("error" if failed else command, last)


def valid(command: str, *lines: str) -> bool:
    """Whether every line is JSON as the schema of the command's output says; the error says what is not."""
    schema = Draft202012Validator(output_schema(command))
    for line in lines:
        schema.validate(json.loads(line, parse_constant=pytest.fail))
    return True


def test_a_study_that_goes_on_refuses_another_directory(commands: CommandLines) -> None:
    assert "error: begun is a study already; leave out --directory" in commands.outcome("tune begun --directory out")
