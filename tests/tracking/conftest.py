"""An empty run, and its tables."""

from __future__ import annotations

from pathlib import Path

import pytest
from synthetic_runs import METRICS

from raysim.config import Experiment
from raysim.tracking import RunDirectory, RunTables
from raysim.tracking.report.style import LIGHT, Picture


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create_at(tmp_path / "run", Experiment(rounds=10))


@pytest.fixture
def tables(run: RunDirectory) -> RunTables:
    return RunTables(run, METRICS)


@pytest.fixture
def light_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw each picture once, for tests that are not about pictures."""
    original = Picture.png
    monkeypatch.setattr(Picture, "png", lambda self, theme: original(self, theme) if theme is LIGHT else b"dark")
