"""The runs of a folder at a glance, whatever state they are in."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from synthetic_runs import make_run

from raysim.config import Experiment
from raysim.errors import ConfigError, RunError
from raysim.tracking import RunDirectory, past_runs


def test_a_run_is_shown_with_how_far_it_came_and_its_last_and_best_value(tmp_path: Path) -> None:
    make_run(tmp_path, "a", rounds=4, algorithm="fedprox")
    (run,) = past_runs(tmp_path)
    assert (run.state, run.reason, run.rounds, run.planned) == ("finished", "all rounds are done", 4, 4)
    assert (run.metric, run.last, run.best, run.best_round) == ("test/accuracy", 0.75, 0.75, 4)
    assert run.seconds == 4 * 0.75
    assert run.value("algorithm") == "fedprox"
    assert run.began is not None


def test_the_newest_comes_first_and_other_folders_are_passed_over(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        make_run(tmp_path, name)
    (tmp_path / "notes").mkdir()
    (tmp_path / "text").touch()
    assert [run.path.name for run in past_runs(tmp_path)] == ["c", "a", "b"]


def test_a_run_without_an_end_is_unfinished_and_one_that_is_being_written_is_running(tmp_path: Path) -> None:
    path = make_run(tmp_path, "killed", end=None)
    assert past_runs(tmp_path)[0].state == "unfinished"
    with RunDirectory(path).lock():
        assert past_runs(tmp_path)[0].state == "running"
    assert past_runs(tmp_path)[0].state == "unfinished"


def test_a_run_without_rounds_and_a_damaged_one_do_not_hide_the_others(tmp_path: Path) -> None:
    make_run(tmp_path, "whole")
    RunDirectory.create_at(tmp_path / "empty", Experiment())
    (make_run(tmp_path, "damaged") / "rounds.parquet").write_bytes(b"no table")
    found = {run.path.name: run for run in past_runs(tmp_path)}
    assert {name: run.state for name, run in found.items()} == {
        "whole": "finished",
        "empty": "unfinished",
        "damaged": "damaged",
    }
    assert math.isnan(found["empty"].last)
    assert "rounds.parquet" in str(found["damaged"].reason)


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        (["algorithm=fedprox"], {"prox"}),
        (["algorithm.mu=0.5"], {"prox"}),
        (["rounds=4"], {"plain", "prox"}),
        (["state=unfinished"], {"plain"}),
        (["pro"], {"prox"}),
        (["pro", "state=unfinished"], set()),
        (["data.source=digits", "cohort=3"], {"plain"}),
    ],
)
def test_runs_are_filtered_by_configuration_state_and_name(tmp_path: Path, filters: list[str], names: set[str]) -> None:
    make_run(tmp_path, "plain", end=None, cohort=3)
    make_run(tmp_path, "prox", algorithm={"name": "fedprox", "mu": 0.5})
    assert {run.path.name for run in past_runs(tmp_path, filters)} == names


def test_what_cannot_be_listed_is_refused_in_one_line(tmp_path: Path) -> None:
    path = make_run(tmp_path, "one")
    with pytest.raises(RunError, match="no such folder; `raysim run` makes runs"):
        past_runs(tmp_path / "nowhere")
    with pytest.raises(RunError, match="is a run itself"):
        past_runs(path)
    with pytest.raises(ConfigError, match="--filter cohorts=3: no run here has the key 'cohorts'"):
        past_runs(tmp_path, ["cohorts=3"])
