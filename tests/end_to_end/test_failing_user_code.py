"""Code of a user's own that fails, at every place where it is called, in every way: one line, nothing half-written."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from command_line import invoke
from failing_code import PLACES, TOLD, Failing

from raysim import Simulation
from raysim.config import Experiment
from raysim.config.base import IMPORT_STRING
from raysim.errors import ClientError, RaysimError, UserCodeError

KINDS = ("value", "key", "exit", "unspeakable")
SOME = ("model", "forward in training", "apply", "measure")
"""Places where every other kind of failure is tried."""

ONCE = """
calls = 0

def apply(self, *given):
    global calls
    calls += 1
    if calls == 2:
        sys.exit(0)
    return Algorithm.apply(self, *given)

Rule.apply = apply
"""
"""The server's second step fails, and no other."""


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where run directories would be, in the working directory of user code."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


def failure(failing: Failing) -> RaysimError:
    """The error that the run ends with, checked as far as all are alike."""
    failing.write()
    with pytest.raises(RaysimError) as caught, Simulation(failing.experiment()) as simulation:
        simulation.run()
    error = caught.value
    assert re.search(failing.pattern, str(error)), str(error)
    assert str(error).isprintable()
    assert error.users
    assert type(error.__cause__).__name__ == TOLD[failing.kind].partition(":")[0].partition(" ")[0]
    return error


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", PLACES)
def test_a_failure_is_one_line_that_names_the_place_and_leaves_no_run(runs: Path, place: str, kind: str) -> None:
    error = failure(Failing(runs.parent, place, kind))
    left = list(runs.iterdir()) if runs.exists() else []
    # What a client's own code did in the first round can be looked at with `raysim debug`, which reads the directory.
    assert len(left) == (isinstance(error, ClientError)), left


@pytest.mark.parametrize("kind", [kind for kind in TOLD if kind not in (*KINDS, "pressed")])
@pytest.mark.parametrize("place", SOME)
def test_an_error_is_told_in_one_printable_line_whatever_it_is(runs: Path, place: str, kind: str) -> None:
    failure(Failing(runs.parent, place, kind))


@pytest.mark.parametrize("place", SOME)
def test_a_keyboard_interrupt_is_ctrl_c_in_the_driver(runs: Path, place: str) -> None:
    failing = Failing(runs.parent, place, "pressed")
    failing.write()
    with pytest.raises(KeyboardInterrupt), Simulation(failing.experiment()) as simulation:
        simulation.run()
    assert not list(runs.iterdir() if runs.exists() else [])


def test_a_failure_after_a_round_can_be_resumed_to_the_model_of_a_run_in_peace(
    runs: Path,
) -> None:
    failing = Failing(runs.parent, "apply", "none")
    failing.write(ONCE)
    with (
        pytest.raises(UserCodeError, match=r"round 2: algorithm .*: apply: SystemExit"),
        Simulation(failing.experiment()) as simulation,
    ):
        simulation.run()
    with Simulation.resume(simulation.directory) as resumed:
        assert resumed.number == 1
        resumed.run()
    with Simulation(failing.experiment()) as in_peace:
        in_peace.run()
    models = [(one.directory / "model.safetensors").read_bytes() for one in (resumed, in_peace)]
    assert models[0] == models[1]


@pytest.mark.parametrize("command", ["run", "plan", "data build", "data show", "tune"])
def test_every_command_that_runs_user_code_exits_with_2_and_shows_the_traceback_if_asked(
    runs: Path, command: str
) -> None:
    failing = Failing(runs.parent, "source", "exit")
    failing.write()
    values = failing.values() | {"tuning": {"space": {"client.optimizer.lr": {"low": 0.1, "high": 1.0}}}}
    Path("failing.yaml").write_text(json.dumps(values))
    line = f"error: data.source: {failing.name}:source: SystemExit: 0 (sys.exit ends no run; raise an error instead)"
    result = invoke(*command.split(), "failing.yaml")
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (2, f"{line} (--debug shows the traceback)")
    assert "Traceback" not in result.stderr
    result = invoke(*command.split(), "failing.yaml", "--debug")
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (2, line)
    assert f"{failing.name}.py" in result.stderr
    assert not runs.exists()


@pytest.mark.parametrize(
    ("place", "end"),
    [("import", "KeyError: 'mine'"), ("correct", "KeyError: 'mine'"), ("measure", "KeyError: 'mine'")],
)
def test_a_run_that_user_code_ends_exits_with_2(runs: Path, place: str, end: str) -> None:
    failing = Failing(runs.parent, place, "key")
    failing.write()
    Path("failing.yaml").write_text(json.dumps(failing.values()))
    result = invoke("run", "failing.yaml", "--quiet")
    assert result.exit_code == 2
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert last.endswith(f"{end} (--debug shows the traceback)")


def test_every_import_string_of_the_schema_has_its_place_here() -> None:
    def strings(schema: object) -> int:
        if isinstance(schema, list):
            return sum(map(strings, schema))
        if not isinstance(schema, dict):
            return 0
        return (schema.get("pattern") == IMPORT_STRING) + sum(map(strings, schema.values()))

    # Of the model, the loss, the algorithm, the chooser, a stage, and of `CustomConfig`: a source, a partitioner, a
    # selection or an observer.
    assert strings(Experiment.model_json_schema()) == 6, "give the new one a place in tests/failing_code.py"
