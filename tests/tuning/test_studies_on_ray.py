"""Studies whose trials run in processes of a Ray: at once, and killed in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from studies import LR, TUNABLE, Tunable

from raysim import tune
from raysim.errors import PlacementError
from raysim.tracking import RunDirectory, read_rounds

PATIENCE = 240.0


def trials(study: Path) -> list[FrozenTrial]:
    """Trials of a study that another process may be writing."""
    storage = JournalStorage(JournalFileBackend(str(study / "journal.log")))
    return optuna.load_study(study_name="study", storage=storage).get_trials(deepcopy=False)


def wait_for(what: Callable[[], Any], driver: subprocess.Popen[str]) -> Any:
    """The first true answer."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        assert driver.poll() is None, driver.communicate()
        try:
            if found := what():
                return found
        except (OSError, KeyError, ValueError):  # not there yet, or just being written
            pass
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
def test_trials_at_once_come_to_the_bits_of_one_at_a_time(tunable: Tunable, tmp_path: Path) -> None:
    """Also where a trial has a share of several actors."""
    space = {"client.optimizer.lr": {"choices": [0.1, 0.3]}}
    grid = {"space": space, "sampler": "grid"}
    alone = tune(tunable(grid), directory=tmp_path / "alone")
    expected = {trial.params["client.optimizer.lr"]: trial.value for trial in alone.study.trials}
    for actors in (1, 2):
        execution = {"executor": "ray", "actors": actors}
        experiment = tunable(grid | {"parallel": 2}, execution=execution)
        study = tune(experiment, directory=tmp_path / f"{actors} actors").study
        assert {trial.params["client.optimizer.lr"]: trial.value for trial in study.trials} == expected
        run = RunDirectory.open(tmp_path / f"{actors} actors" / "trials" / "00000")
        assert run.experiment().execution.executor == ("inprocess" if actors == 1 else "ray")


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
def test_more_trials_at_once_than_fit_are_refused(tunable: Tunable, tmp_path: Path) -> None:
    experiment = tunable({"space": LR, "parallel": 3}, execution={"executor": "ray", "actors": 2})
    with pytest.raises(PlacementError, match="3 trials at once of 2 actors need 6 places, and there are 4"):
        tune(experiment, directory=tmp_path / "study")


@pytest.mark.ray
def test_a_killed_worker_and_then_a_killed_driver_lose_no_finished_trial(tmp_path: Path) -> None:
    values = TUNABLE | {
        "rounds": 30,
        "client": {"steps": 20, "optimizer": {"lr": 0.1}},
        "execution": {"executor": "ray", "actors": 1},
        "tracking": {"report": False},
        "tuning": {"space": LR, "sampler": "random", "trials": 1000, "confirm": {"seeds": 0}},
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(values))
    study = tmp_path / "out"
    script = "from raysim.cli import main\nfrom warm_workers import warm_workers\nwith warm_workers(): main()"
    command = [sys.executable, "-c", script, "tune", "study.yaml", "--directory", "out"]
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    paths = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    driver = subprocess.Popen(command, cwd=tmp_path, env=paths, start_new_session=True, **output)

    def killed_in_a_trial() -> int | None:
        """Kill the process of the newest trial, unless that is the first, or has come to its end meanwhile."""
        run = RunDirectory(max((study / "trials").iterdir()))
        worker: int = json.loads((run.path / ".lock").read_text())["pid"]
        if run.path.name == "00000" or worker == driver.pid:
            return None
        os.kill(worker, signal.SIGSTOP)
        runs = read_rounds(run).num_rows < 30
        os.kill(worker, signal.SIGKILL if runs else signal.SIGCONT)
        return worker if runs else None

    try:
        wait_for(killed_in_a_trial, driver)
        wait_for(lambda: [t for t in trials(study) if t.state == TrialState.FAIL], driver)
        wait_for(lambda: sum(t.state == TrialState.COMPLETE for t in trials(study)) >= 3, driver)
        wait_for(lambda: [t for t in trials(study) if t.state == TrialState.RUNNING and t.params], driver)
    finally:
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
    before = [trial for trial in trials(study) if trial.state == TrialState.COMPLETE]

    enough = len(before) + 3
    tuned = tune(directory=study, overrides=["execution.executor=inprocess", f"tuning.trials={enough}"])

    after = tuned.study.get_trials(deepcopy=False)
    assert [(t.number, t.params, t.value) for t in after if t.number in {b.number for b in before}] == [
        (t.number, t.params, t.value) for t in before
    ]
    assert sum(trial.state == TrialState.COMPLETE for trial in after) == enough
    lost = [trial for trial in after if trial.state == TrialState.FAIL]
    assert 1 <= len(lost) <= 2
    for trial in lost:
        repeated = [other for other in after if other.user_attrs.get("retry_of") == trial.number]
        assert [other.params for other in repeated] == [trial.params]
        assert repeated[0].state == TrialState.COMPLETE
