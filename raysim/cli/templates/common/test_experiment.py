"""The experiment runs, and gives the same model twice."""

from __future__ import annotations

from pathlib import Path

from raysim import Experiment, Simulation

HERE = Path(__file__).parent
SHORT = ["rounds=1", "cohort=2", "tracking.report=false"]


def final_model(directory: Path) -> bytes:
    experiment = Experiment.from_yaml(HERE / "experiment.yaml", SHORT)
    with Simulation(experiment, directory=directory) as simulation:
        summary = simulation.run()
    assert summary.rounds == 1
    return (directory / "model.safetensors").read_bytes()


def test_the_experiment_gives_the_same_model_twice(tmp_path: Path) -> None:
    assert final_model(tmp_path / "first") == final_model(tmp_path / "second")
