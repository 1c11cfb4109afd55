"""`--profile`: where the time of a run's rounds went."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from raysim.rounds.rows import PARTS
from raysim.tracking import RunDirectory, read_rounds

Raysim = Callable[..., Result]


def test_a_profile_names_every_phase_and_what_training_goes_into(raysim: Raysim, folder: Path) -> None:
    result = raysim("run", "tiny.yaml", "--profile", "--directory", "out")
    assert result.exit_code == 0, result.output
    lines = {line.split()[0]: line.split()[1:] for line in result.stdout.splitlines() if line.strip()}
    assert {"train", "shards", "batches", "steps", "fold", "apply", "all"} <= lines.keys()
    assert lines["all"][-2:] == ["100.0", "%"]
    rows = read_rounds(RunDirectory.open(folder / "out"))
    train = sum(rows["seconds/train"].to_pylist())
    parts = sum(sum(rows[f"seconds/{part}"].to_pylist()) for part in PARTS)
    assert 0 < parts <= train
    assert " ".join(lines["engine"]) == RunDirectory.open(folder / "out").read_environment()["engine"]


def test_a_resumed_run_has_one_too(raysim: Raysim, folder: Path) -> None:
    assert raysim("run", "tiny.yaml", "--directory", "out").exit_code == 0
    result = raysim("resume", "out", "rounds=3", "--profile", "--quiet")
    assert "Where the time went" in result.stdout


@pytest.mark.parametrize("command", [("run", "tiny.yaml")])
def test_json_is_for_programs(raysim: Raysim, folder: Path, command: tuple[str, ...]) -> None:
    result = raysim(*command, "--json", "--profile")
    assert result.exit_code == 2
    assert "--json and --profile exclude each other" in result.stderr
