"""Every command speaks to programs, errors included, and says how."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import Result

from raysim.cli import app
from raysim.cli.exit_codes import EXIT_CODES
from raysim.cli.json_outputs import OUTPUTS
from raysim.cli.json_outputs.schemas import output_schema
from raysim.cli.signals import Terminated
from raysim.errors import ClientError

Raysim = Callable[..., Result]


def commands(command: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every command that does something, by its words."""
    below = getattr(command, "commands", {})
    if not below:
        yield path, command
    for name, one in below.items():
        yield from commands(one, f"{path} {name}".strip())


COMMANDS = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_the_option_and_has_a_schema(command: str) -> None:
    options = [option for parameter in COMMANDS[command].params for option in parameter.opts]
    assert "--json" in options, "take the option `raysim.cli.options.Json`, and print by `json_outputs.emit`"
    assert command in OUTPUTS, "give the class of what it prints a line in raysim/cli/json_outputs/__init__.py"


def test_no_schema_is_of_a_command_that_is_gone() -> None:
    assert set(OUTPUTS) == {*COMMANDS, "error"}


@pytest.mark.parametrize("command", OUTPUTS)
def test_a_schema_says_what_each_field_is_and_allows_no_other(command: str) -> None:
    schema = output_schema(command)
    objects = [one for one in (schema, *schema.get("$defs", {}).values()) if "properties" in one]
    assert objects
    for one in objects:
        assert one["additionalProperties"] is False
        assert one["required"] == list(one["properties"])
        assert [name for name, field in one["properties"].items() if not {"description", "const"} & field.keys()] == []


def test_the_schema_of_an_unknown_command_is_refused_in_one_line(raysim: Raysim) -> None:
    result = raysim("schema", "--output", "plans")
    assert result.exit_code == 2
    assert result.stderr == "error: --output: unknown command 'plans'; did you mean 'plan'?\n"


def test_the_schema_of_an_output_may_be_written_over_an_earlier_one(raysim: Raysim, folder: Path) -> None:
    for _ in range(2):
        assert raysim("schema", "--output", "runs", "--out", "runs.json").stdout == "runs.json\n"
    assert json.loads((folder / "runs.json").read_text()) == output_schema("runs")


def test_every_problem_of_a_configuration_is_a_message_for_programs(raysim: Raysim) -> None:
    result = raysim("plan", "tiny.yaml", "rounds=0", "seeds=1", "--json")
    assert result.exit_code == 2
    error = json.loads(result.stdout)["error"]
    assert (error["type"], error["exit_code"]) == ("ConfigError", 2)
    assert [f"error: {one}" for one in error["messages"]] == result.stderr.splitlines()
    assert len(error["messages"]) == 2


def test_without_the_option_an_error_prints_nothing_on_the_standard_output(raysim: Raysim) -> None:
    assert raysim("plan", "tiny.yaml", "rounds=0").stdout == ""


@pytest.mark.parametrize("arguments", [["runs", "--limit", "few"], ["privacy", "curve", "--rouns", "3"], ["debug"]])
def test_a_wrong_option_is_an_error_for_programs_too(raysim: Raysim, arguments: list[str]) -> None:
    result = raysim(*arguments, "--json")
    assert result.exit_code == 2
    error = json.loads(result.stdout)["error"]
    assert (error["type"], error["exit_code"]) == ("UsageError", 2)
    assert error["messages"][0] in result.stderr


def test_an_error_of_a_client_says_which_and_how_to_see_it(raysim: Raysim, monkeypatch: pytest.MonkeyPatch) -> None:
    failure = ClientError("client 3 failed", client=3, round=2)
    failure.add_note("to see it: raysim debug")
    monkeypatch.setattr("raysim.tracking.past_runs", raising(failure))
    error = json.loads(raysim("runs", "--json").stdout)["error"]
    assert (error["type"], error["client"], error["round"], error["own_code"]) == ("ClientError", 3, 2, True)
    assert error["notes"] == ["to see it: raysim debug"]


@pytest.mark.parametrize(("signalled", "code"), [(KeyboardInterrupt(), 130), (Terminated(), 143)])
def test_an_interruption_is_an_error_for_programs(
    raysim: Raysim, monkeypatch: pytest.MonkeyPatch, signalled: BaseException, code: int
) -> None:
    monkeypatch.setattr("raysim.tracking.past_runs", raising(signalled))
    result = raysim("runs", "--json")
    assert (result.exit_code, result.stderr) == (code, "interrupted\n")
    error = json.loads(result.stdout)["error"]
    assert (error["type"], error["exit_code"], error["messages"]) == ("Interrupted", code, ["interrupted"])


def raising(error: BaseException) -> Callable[..., object]:
    def fail(*_: object, **__: object) -> object:
        raise error

    return fail


def test_the_page_for_programs_has_every_exit_code() -> None:
    assert EXIT_CODES.keys() == {0, 1, 2, 128 + signal.SIGINT, 128 + signal.SIGTERM}
    text = (Path(__file__).parents[2] / "AGENTS.md").read_text()
    (row,) = re.findall(r"^\| exit code \| (.*) \|$", text, re.MULTILINE)
    assert [int(code) for code in re.findall(r"\b\d+\b", row)] == list(EXIT_CODES)
