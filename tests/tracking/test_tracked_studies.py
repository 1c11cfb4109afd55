"""Trials of a study, and runs of several seeds, as one group in MLflow and in Weights & Biases."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from test_trackers import log_records
from typer.testing import CliRunner

from raysim import Experiment, tune
from raysim.cli import app
from raysim.errors import ConfigError
from raysim.tracking import RunDirectory, read_rounds
from raysim.tracking.observers.wandb import job_type
from raysim.tuning.progress import PlainStudy

SETTING: dict[str, Any] = {
    "name": "tracked",
    "rounds": 2,
    "cohort": 3,
    "data": {"partition": {"name": "iid", "clients": 6}, "validation": 0.2},
    "client": {"steps": 1},
    "training": {"engine": "sequential"},
    "execution": {"executor": "inprocess"},
}
TUNING: dict[str, Any] = {
    "space": {"client.optimizer.lr": {"choices": [0.001, 0.5]}},
    "sampler": "grid",
    "trials": 2,
    "confirm": {"seeds": 2},
}


@pytest.fixture(autouse=True)
def _no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    pytest.importorskip("wandb")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for name in ("exit", "excepthook"):
        monkeypatch.setattr(sys, name, getattr(sys, name))  # wandb leaves hooks behind
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "wandb-config"))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "wandb-cache"))


def experiment(folder: Path, *observers: Any, **sections: Any) -> Experiment:
    setting = {**SETTING, "client": {"steps": 1, "optimizer": {"lr": 0.001}}, **sections}
    return Experiment.parse(
        {**setting, "tracking": {"directory": str(folder), "report": False, "observers": list(observers)}}
    )


def mlflow_runs(folder: Path) -> dict[str, Any]:
    """Every run of the folder's MLflow by its name."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=folder.as_uri())
    found = client.search_runs([one.experiment_id for one in client.search_experiments()])
    return {one.info.run_name: one for one in found}


def wandb_run(run: Path) -> Any:
    """What W&B's own file of a run says of it."""
    from wandb.proto.wandb_internal_pb2 import Record

    (file,) = run.glob("wandb/offline-run-*/*.wandb")
    for data in log_records(file.read_bytes()):
        record = Record()
        record.ParseFromString(data)
        if record.HasField("run"):
            return record.run
    raise AssertionError(f"{file} names no run")


def test_trials_are_children_of_their_study(tmp_path: Path) -> None:
    asked = experiment(tmp_path, "mlflow", tuning=TUNING)
    tuned = tune(asked, directory=tmp_path / "study")
    runs = mlflow_runs(tmp_path / "mlruns")
    study = runs.pop("study")
    assert study.info.status == "FINISHED"
    assert study.data.tags["best.trial"] == "1", "the larger rate is better, so that there is something to confirm"
    assert study.data.tags["best.client.optimizer.lr"] == "0.5"
    assert study.data.metrics["validation/accuracy"] in [one.value for one in tuned.study.trials]
    assert tuned.confirmed is not None
    assert study.data.metrics["confirmed/test.accuracy"] == tuned.confirmed.difference
    assert len(runs) == 2 + 2 * 2
    assert {one.data.tags["mlflow.parentRunId"] for one in runs.values()} == {study.info.run_id}
    for number, trial in enumerate(tuned.study.trials):
        place = tmp_path / "study" / "trials" / f"{number:05d}"
        assert runs[place.name].data.metrics["validation/accuracy"] == trial.value
        assert runs[place.name].data.params["client.optimizer.lr"] == str(trial.params["client.optimizer.lr"])
        assert read_rounds(RunDirectory.open(place))["validation/accuracy"].to_pylist()[-1] == trial.value


def test_trials_are_a_group_with_the_name_of_their_study(tmp_path: Path) -> None:
    asked = experiment(tmp_path, "wandb", tuning={"space": TUNING["space"], "trials": 1, "confirm": {"seeds": 0}})
    tune(asked, directory=tmp_path / "study")
    trial = wandb_run(tmp_path / "study" / "trials" / "00000")
    assert (trial.run_group, trial.job_type) == ("study", "trial")
    assert job_type(tmp_path / "study" / "confirm" / "winner-7", tmp_path / "study") == "confirmation"
    assert job_type(tmp_path / "trials" / "mine", None) == "run"


def test_a_resumed_study_goes_on_in_its_own_run(tmp_path: Path) -> None:
    tuning = {**TUNING, "confirm": {"seeds": 0}}
    tune(experiment(tmp_path, "mlflow", tuning={**tuning, "trials": 1}), directory=tmp_path / "study")
    tune(directory=tmp_path / "study", overrides=["tuning.trials=2"])
    assert set(mlflow_runs(tmp_path / "mlruns")) == {"study", "00000", "00001"}


def test_runs_of_several_seeds_are_children_of_one_run_and_a_group(tmp_path: Path) -> None:
    experiment(tmp_path / "runs", "mlflow", "wandb").to_yaml(tmp_path / "tracked.yaml")
    given = ["run", str(tmp_path / "tracked.yaml"), "--seeds", "2", "--directory", str(tmp_path / "runs"), "--quiet"]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 0, done.output
    runs = mlflow_runs(tmp_path / "runs" / "mlruns")
    seeds = [runs.pop("seed-0"), runs.pop("seed-1")]
    ((name, parent),) = runs.items()
    assert name.startswith("tracked-2")
    assert parent.info.status == "FINISHED"
    assert {one.data.tags["mlflow.parentRunId"] for one in seeds} == {parent.info.run_id}
    assert {wandb_run(tmp_path / "runs" / f"seed-{n}").run_group for n in (0, 1)} == {name}


def test_a_study_whose_tracker_does_not_answer_says_so_once_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tuning = {"space": TUNING["space"], "trials": 1, "confirm": {"seeds": 0}}
    asked = experiment(tmp_path, {"name": "mlflow", "uri": "http://127.0.0.1:1"}, tuning=tuning)
    tuned = tune(asked, directory=tmp_path / "study", progress=PlainStudy())
    assert len(tuned.study.trials) == 1
    said = capsys.readouterr().err.splitlines()
    assert len([line for line in said if line.startswith("MLflow has no more of the study itself")]) == 1


def test_a_study_with_a_missing_library_is_refused_before_it_begins(tmp_path: Path) -> None:
    with (
        patch.dict("sys.modules", {"tensorboard": None}),
        pytest.raises(ConfigError, match=r"pip install 'raysim-fl\[tensorboard\]'"),
    ):
        tune(experiment(tmp_path, "tensorboard", tuning=TUNING), directory=tmp_path / "study")
    assert not (tmp_path / "study").exists()
