"""An empty run, and its tables."""

from __future__ import annotations

from pathlib import Path

import pytest
from synthetic_runs import METRICS

from raysim.config import Experiment
from raysim.tracking import RunDirectory, RunTables


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create_at(tmp_path / "run", Experiment(rounds=10))


@pytest.fixture
def tables(run: RunDirectory) -> RunTables:
    return RunTables(run, METRICS)
