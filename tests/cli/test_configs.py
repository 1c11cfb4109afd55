from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from raysim import Experiment
from raysim.tracking import RunDirectory, read_rounds

Raysim = Callable[..., Result]

FOLDER = Path(__file__).parents[2] / "configs"
CONFIGS = sorted(
    file for family in ("", "llm", "privacy", "systems", "wire") for file in (FOLDER / family).glob("*.yaml")
)
PLANNED = ("llama_7b_lora", "mistral_7b_flowertune")
"""Models that no test machine holds."""
ELSEWHERE = ("minilm_spam_lora", "smollm2_roles_lora", "dp_lora_spam")
"""Those whose model comes from a hub."""

DATA = os.environ.get("RAYSIM_DATA")

SMALL = {
    "mnist_2nn": ["cohort=2", "evaluation.every=0", "stop={}"],
    "mnist_cnn": ["cohort=1", "client.steps=1", "evaluation.every=0", "stop={}"],
    "million_clients": ["cohort=3"],
    "many_small_clients": ["cohort=10"],
    "digits_bf16": ["client.epochs=1", "client.steps=2"],
    "dpo_shakespeare": ["cohort=2", "client.epochs=1", "client.steps=1"],
    "diloco_digits": ["client.schedule.warmup=4"],
    "diloco_shakespeare": [
        "client.schedule.warmup=1",
        "cohort=2",
        "client.steps=2",
        "model.hidden=8",
        "evaluation.every=0",
    ],
    "step_schedule_digits": ["client.schedule.warmup=4"],
    "shakespeare_gpt": ["cohort=2", "client.steps=1", "evaluation.every=0"],
    "diloco": ["cohort=2", "client.steps=2", "client.schedule.warmup=1", "evaluation.every=0"],
    "fedkseed": ["cohort=2", "client.steps=1", "evaluation.every=0"],
    "corpus_shakespeare": ["cohort=2", "client.steps=1", "model.hidden=8", "evaluation.every=0"],
    "shakespeare_lstm": ["cohort=2", "client.steps=1", "model.hidden=8", "evaluation.every=0"],
    "synthetic_fedprox": ["client.epochs=1", "client.steps=2"],
    "fedprox_stragglers": ["client.epochs=1", "client.steps=2"],
    "hierarchical_digits": ["algorithm.edge_rounds=1"],
}
"""Overrides that make a configuration quick to try."""


def needs_files(experiment: Experiment) -> bool:
    return experiment.data.source.name in ("mnist", "cifar10", "csv", "parquet", "npz", "idx")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_is_valid_and_explains_itself(path: Path) -> None:
    Experiment.from_yaml(path)
    assert path.read_text(encoding="utf-8").startswith("# ")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_whose_data_is_at_hand_trains(
    raysim: Raysim, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if needs_files(Experiment.from_yaml(path)):
        if DATA is None:
            pytest.skip("needs data files in RAYSIM_DATA")
        monkeypatch.setenv("RAYSIM_DATA", DATA)
    overrides = ["rounds=1", "execution.executor=inprocess", "tracking.report=false", *SMALL.get(path.stem, [])]
    training = Experiment.from_yaml(path).training
    if training.engine == "rows" and training.rows is None:
        overrides.append("training.rows=4")  # the fastest number would have to be timed, and changes no bit
    if path.stem in ELSEWHERE:
        return
    assert raysim("plan", str(path), *overrides).exit_code == 0
    if path.stem in PLANNED:
        return
    result = raysim("run", str(path), *overrides, "--directory", "out")
    assert result.exit_code == 0, result.output
    assert read_rounds(RunDirectory.open("out")).num_rows == 1


def test_the_quickstart_reaches_what_it_promises(raysim: Raysim) -> None:
    quickstart = next(path for path in CONFIGS if path.stem == "quickstart")
    overrides = ["execution.executor=inprocess", "tracking.report=false", "evaluation.every=20"]
    result = raysim("run", str(quickstart), *overrides, "--directory", "out")
    assert result.exit_code == 0, result.output
    assert read_rounds(RunDirectory.open("out"))["test/accuracy"][-1].as_py() >= 0.93
