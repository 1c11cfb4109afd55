"""Runs with several observers: what they see, and that none of them changes a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from federations import digits, sha256

from raysim import Experiment, Simulation, tune
from raysim.errors import ConfigError, RaysimError
from raysim.rounds.rows import RoundRow, RunSummary
from raysim.tracking import Observer, read_events

CUSTOM = "tracking.observers=[{{name: 'test_observed_runs:Written', args: {{path: '{path}'}}}}]"


class Rounds(Observer):
    """Keeps the rounds that it is told of."""

    def __init__(self) -> None:
        self.rows: list[RoundRow] = []

    def round(self, row: RoundRow) -> None:
        self.rows.append(row)


class Broken(Observer):
    """Fails in one of the calls."""

    def __init__(self, call: str) -> None:
        def fail(*arguments: Any, **named: Any) -> None:
            raise OSError(f"no server\nfor {call}")

        setattr(self, call, fail)


class Written(Observer):
    """Appends the directory of each run that it is told of to a file, and how the run ended."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    def start(self, experiment: Experiment, facts: Any, *, after_round: int = 0) -> None:
        self._append(f"{Path(facts['run']).name} after {after_round}")

    def finish(self, summary: RunSummary) -> None:
        self._append(f"{summary.rounds}: {summary.reason}")

    def _append(self, line: str) -> None:
        with self._path.open("a") as file:
            file.write(f"{line}\n")


@pytest.mark.parametrize("call", ["preparing", "start", "round", "note", "finish"])
def test_an_observer_that_fails_changes_nothing_but_a_line(
    tmp_path: Path, call: str, capsys: pytest.CaptureFixture[str]
) -> None:
    own = [f"data.cache={tmp_path / 'cache'}", "rounds=2"]
    rounds, alone = Rounds(), Rounds()
    noisy = ["aggregation.exact=false"] if call == "note" else []
    with Simulation(digits(tmp_path, *own, *noisy), progress=["plain", Broken(call), rounds]) as observed:
        observed.run()
    assert capsys.readouterr().err.count("observer Broken failed") == 1
    with Simulation(digits(tmp_path, *own, *noisy), progress=alone) as simulation:
        simulation.run()
    assert sha256(observed.model()) == sha256(simulation.model())
    assert [row.round for row in rounds.rows] == [row.round for row in alone.rows] == [1, 2]
    (event,) = [
        event for event in read_events(observed.directory / "log.jsonl") if event["event"] == "observer dropped"
    ]
    assert (event["level"], event["observer"], event["call"]) == ("warning", "Broken", call)
    assert event["error"] == f"OSError: no server for {call}"
    assert "Traceback" in event["traceback"]


def test_observers_of_the_configuration_are_told_of_runs_resumes_and_trials(tmp_path: Path) -> None:
    path = tmp_path / "told.txt"
    experiment = digits(tmp_path, "rounds=2", CUSTOM.format(path=path), "data.validation=0.1")
    with Simulation(experiment, directory=tmp_path / "first") as simulation:
        next(iter(simulation))
    with Simulation.resume(simulation.directory) as resumed:
        resumed.run()
    assert path.read_text().splitlines() == ["first after 0", "1: stopped", "first after 1", "2: all rounds are done"]
    path.unlink()
    space = "tuning={space: {client.optimizer.lr: {low: 0.1, high: 0.5}}, trials: 2, confirm: {seeds: 0}}"
    tune(experiment, overrides=[space], directory=tmp_path / "study")
    lines = path.read_text().splitlines()
    assert lines[1::2] == ["2: all rounds are done"] * 2
    assert len(set(lines[0::2])) == 2, "each trial is a run of its own"


def test_a_resume_may_name_other_observers(tmp_path: Path) -> None:
    with Simulation(digits(tmp_path, "rounds=2")) as simulation:
        next(iter(simulation))
    path = tmp_path / "told.txt"
    with Simulation.resume(simulation.directory, overrides=[CUSTOM.format(path=path)]) as resumed:
        resumed.run()
    assert path.read_text().splitlines()[-1] == "2: all rounds are done"


def test_an_observer_that_cannot_be_made_leaves_no_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^tracking.observers\[0\]: no module 'nowhere'"):
        Simulation(digits(tmp_path / "runs", "tracking.observers=['nowhere:Thing']"))
    assert not (tmp_path / "runs").exists()


def test_json_for_programs_goes_beside_lines_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Simulation(digits(tmp_path, "rounds=1", "tracking.observers=[json]"), progress="plain") as simulation:
        simulation.run()
    printed = capsys.readouterr()
    events = [json.loads(line)["event"] for line in printed.out.splitlines()]
    assert [event for event in events if event != "note"] == ["start", "round", "finish"]
    assert "\nround 1/1  " in printed.err


@pytest.mark.parametrize(
    "work",
    [
        lambda tiny: Simulation(tiny, directory=3),
        lambda tiny: Simulation.resume(3),
        lambda tiny: tune(tiny, directory=3),
    ],
)
def test_a_directory_that_is_no_path_is_one_line(tmp_path: Path, work: Any) -> None:
    with pytest.raises(RaysimError, match=r"^3: expected the path of a file or folder, got int$"):
        work(digits(tmp_path))


@pytest.mark.parametrize("work", [Simulation, tune])
def test_progress_that_is_neither_a_name_nor_an_observer_is_one_line(tmp_path: Path, work: Any) -> None:
    with pytest.raises(ConfigError, match=r"^progress: expected an .* with the methods .*, got int"):
        work(digits(tmp_path), progress=3)
